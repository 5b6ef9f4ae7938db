//! CREATE_CHILD_SA (RFC 7296, 1.3) as responder. Further Child SAs and rekeying are refused in
//! the way the RFC has for an implementation that does only the first Child SA (RFC 7296, 1.3:
//! "minimal implementations"): the peer makes a new IKE SA instead.

use super::super::context::Context;
use super::super::error::{Answer, Error, Trust};
use super::super::ike_sa::IkeSa;
use super::super::message;
use super::sa_init::status;
use crate::wire::registry::ExchangeType;

/// Refuses a request; IKE SA and Child SAs live on.
pub fn respond(cx: &mut Context, sa: &mut IkeSa, message_id: u32, digest: u64) {
    let error = Error::NoAdditionalSas;
    cx.debug(format_args!(
        "{}: CREATE_CHILD_SA refused: {error}",
        sa.tag()
    ));
    let (Answer::Notify(kind, data) | Answer::NotifyAndClose(kind, data)) =
        error.answer(Trust::Authenticated)
    else {
        return;
    };
    let exchange = ExchangeType::CREATE_CHILD_SA;
    message::respond(cx, sa, exchange, message_id, digest, &[status(kind, &data)]);
}
