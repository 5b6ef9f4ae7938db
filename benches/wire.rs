//! What decoding and encoding one message costs, and how often it allocates: the share of the codec in
//! a handshake and in DPD.
#![allow(clippy::print_stdout, reason = "the table is the result")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use iked::sys::heap::Counting;
use iked::wire::registry::{
    AuthMethod, CertEncoding, CfgAttrType, CfgType, EncrId, EsnId, ExchangeType, IdType, IntegId,
    KeId, NotifyType, PayloadType, PrfId, ProtocolId,
};
use iked::wire::spi::IkeSpi;
use iked::wire::{
    Auth, Cert, CertReq, CfgAttribute, Cp, Flags, Header, Id, Ke, Message, Notify, Payload,
    Proposal, TrafficSelector, Transform, TransformId, Transforms, decode_payloads, encode_message,
    encode_payloads, print,
};

#[global_allocator]
static HEAP: Counting = Counting::new();

fn header(exchange: ExchangeType) -> Header {
    Header {
        initiator_spi: IkeSpi::new(0x0102_0304_0506_0708),
        responder_spi: IkeSpi::new(0x1112_1314_1516_1718),
        next_payload: PayloadType::NONE,
        major: 2,
        minor: 0,
        exchange,
        flags: Flags {
            initiator: true,
            version: false,
            response: false,
        },
        message_id: 1,
        length: 0,
    }
}

fn notify(kind: NotifyType, data: &[u8]) -> Payload<'_> {
    Payload::Notify(Notify {
        protocol: ProtocolId::NONE,
        spi: &[],
        kind,
        data,
    })
}

/// IKE_SA_INIT as OpenIKED and strongSwan send it: two proposals, key, nonce, four notifications.
fn sa_init() -> Vec<Payload<'static>> {
    let aead = vec![
        Transform::new(TransformId::Encr(EncrId::AES_GCM_16), Some(256)),
        Transform::new(TransformId::Encr(EncrId::AES_GCM_16), Some(128)),
        Transform::new(TransformId::Prf(PrfId::HMAC_SHA2_256), None),
        Transform::new(TransformId::Ke(KeId::CURVE25519), None),
        Transform::new(TransformId::Ke(KeId::ECP_256), None),
    ];
    let cbc = vec![
        Transform::new(TransformId::Encr(EncrId::AES_CBC), Some(256)),
        Transform::new(TransformId::Prf(PrfId::HMAC_SHA2_256), None),
        Transform::new(TransformId::Integ(IntegId::HMAC_SHA2_256_128), None),
        Transform::new(TransformId::Ke(KeId::CURVE25519), None),
        Transform::new(TransformId::Ke(KeId::MODP_2048), None),
    ];
    let proposal = |number, transforms| Proposal {
        number,
        protocol: ProtocolId::IKE,
        spi: &[],
        transforms: Transforms::from(transforms),
    };
    vec![
        Payload::Sa([proposal(1, aead), proposal(2, cbc)].into()),
        Payload::Ke(Ke {
            method: KeId::CURVE25519,
            data: &[9; 32],
        }),
        Payload::Nonce(&[7; 32]),
        notify(NotifyType::NAT_DETECTION_SOURCE_IP, &[1; 20]),
        notify(NotifyType::NAT_DETECTION_DESTINATION_IP, &[2; 20]),
        notify(NotifyType::FRAGMENTATION_SUPPORTED, &[]),
        notify(
            NotifyType::SIGNATURE_HASH_ALGORITHMS,
            &[0, 2, 0, 3, 0, 4, 0, 5],
        ),
    ]
}

/// The inside of an IKE_AUTH request with a certificate and a request for an address.
fn ike_auth() -> Vec<Payload<'static>> {
    let esp = vec![
        Transform::new(TransformId::Encr(EncrId::AES_GCM_16), Some(256)),
        Transform::new(TransformId::Encr(EncrId::AES_GCM_16), Some(128)),
        Transform::new(TransformId::Esn(EsnId::ESN), None),
        Transform::new(TransformId::Esn(EsnId::NO_ESN), None),
    ];
    let any = TrafficSelector {
        protocol: 0,
        start_port: 0,
        end_port: u16::MAX,
        start: [0, 0, 0, 0].into(),
        end: [255, 255, 255, 255].into(),
    };
    let ask = |kind| CfgAttribute { kind, value: &[] };
    vec![
        Payload::IdI(Id {
            kind: IdType::FQDN,
            data: b"client.example.org",
        }),
        Payload::Cert(Cert {
            encoding: CertEncoding::X509,
            data: &[0x30; 900],
        }),
        notify(NotifyType::INITIAL_CONTACT, &[]),
        Payload::CertReq(CertReq {
            encoding: CertEncoding::X509,
            data: &[3; 20],
        }),
        Payload::IdR(Id {
            kind: IdType::FQDN,
            data: b"gateway.example.org",
        }),
        Payload::Auth(Auth {
            method: AuthMethod::SIGNATURE,
            data: &[4; 87],
        }),
        Payload::Cp(Cp {
            kind: CfgType::REQUEST,
            attributes: [
                ask(CfgAttrType::INTERNAL_IP4_ADDRESS),
                ask(CfgAttrType::INTERNAL_IP4_DNS),
                ask(CfgAttrType::INTERNAL_IP6_ADDRESS),
            ]
            .into(),
        }),
        Payload::Sa(
            [Proposal {
                number: 1,
                protocol: ProtocolId::ESP,
                spi: &[0xc1, 2, 3, 4],
                transforms: esp.into(),
            }]
            .into(),
        ),
        Payload::TsI([any].into()),
        Payload::TsR([any].into()),
        notify(NotifyType::MOBIKE_SUPPORTED, &[]),
    ]
}

fn init_messages(c: &mut Criterion) {
    let header = header(ExchangeType::IKE_SA_INIT);
    let payloads = sa_init();
    let mut bytes = Vec::new();
    encode_message(&header, &payloads, &mut bytes);
    let mut group = c.benchmark_group("wire/ike_sa_init");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("peek", |b| b.iter(|| Header::peek(black_box(&bytes))));
    group.bench_function("decode", |b| b.iter(|| Message::decode(black_box(&bytes))));
    group.bench_function("encode", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(2048),
            |out| encode_message(&header, black_box(&payloads), out),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn auth_payloads(c: &mut Criterion) {
    let payloads = ike_auth();
    let mut bytes = Vec::new();
    let first = encode_payloads(&payloads, &mut bytes);
    let message = Message {
        header: header(ExchangeType::IKE_AUTH),
        payloads: payloads.clone().into(),
    };
    let mut group = c.benchmark_group("wire/ike_auth");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("decode", |b| {
        b.iter(|| decode_payloads(first, black_box(&bytes)))
    });
    group.bench_function("encode", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(2048),
            |out| encode_payloads(black_box(&payloads), out),
            BatchSize::SmallInput,
        );
    });
    // What a debug log line costs when it is wanted, and so why it must not be made when not.
    group.bench_function("print", |b| b.iter(|| print::one_line(black_box(&message))));
    group.finish();
}

/// How often each allocates; what is written goes to a buffer that is there already.
fn allocations(_: &mut Criterion) {
    let counted = |name: &str, job: &mut dyn FnMut()| {
        let before = HEAP.calls();
        job();
        println!("{name}: {} allocations", HEAP.calls() - before);
    };
    let (init, auth) = (sa_init(), ike_auth());
    let mut bytes = Vec::with_capacity(2048);
    let header = header(ExchangeType::IKE_SA_INIT);
    counted("wire/ike_sa_init/encode", &mut || {
        encode_message(&header, &init, &mut bytes);
    });
    counted("wire/ike_sa_init/decode", &mut || {
        assert!(black_box(Message::decode(&bytes)).is_ok());
    });
    bytes.clear();
    let mut first = PayloadType::NONE;
    counted("wire/ike_auth/encode", &mut || {
        first = encode_payloads(&auth, &mut bytes);
    });
    counted("wire/ike_auth/decode", &mut || {
        assert!(black_box(decode_payloads(first, &bytes)).is_ok());
    });
}

criterion_group!(benches, allocations, init_messages, auth_payloads);
criterion_main!(benches);
