//! The counters of one shard. The first 26 are those of OpenIKED's `ikectl show stats`, in its order.

/// Declares the struct, the sum and the list of names from one table.
macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since start; `*_current` and `half_open` are gauges.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// Adds another shard's counters.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Name and value of every counter, in the order of the table.
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

stats! {
    /// IKE SAs created, half-open ones included.
    sa_created,
    /// IKE SAs that reached ESTABLISHED.
    sa_established_total,
    /// IKE SAs established now.
    sa_established_current,
    /// IKE SAs that failed before ESTABLISHED.
    sa_established_failures,
    /// Proposal negotiations that failed.
    sa_proposals_negotiate_failures,
    /// IKE SAs rekeyed.
    sa_rekeyed,
    /// IKE SAs removed.
    sa_removed,
    /// Child SAs created, both directions counted.
    csa_created,
    /// Child SAs removed, both directions counted.
    csa_removed,
    /// Datagrams sent.
    msg_sent,
    /// Datagrams the socket refused.
    msg_send_failures,
    /// Datagrams received.
    msg_rcvd,
    /// Requests dropped because their answer is being worked on.
    msg_rcvd_busy,
    /// Datagrams dropped.
    msg_rcvd_dropped,
    /// Own requests sent again.
    retransmit_request,
    /// Responses sent again from the cache.
    retransmit_response,
    /// Own requests given up.
    retransmit_limit,
    /// Fragments sent.
    frag_sent,
    /// Fragments that could not be sent.
    frag_send_failures,
    /// Fragments received.
    frag_rcvd,
    /// Fragments dropped.
    frag_rcvd_drop,
    /// Messages put together.
    frag_reass_ok,
    /// Messages that could not be put together.
    frag_reass_drop,
    /// UPDATE_SA_ADDRESSES requests sent.
    update_addresses_sent,
    /// Liveness probes sent.
    dpd_sent,
    /// NAT keepalives sent.
    keepalive_sent,
    /// IKE SAs waiting for IKE_AUTH now.
    half_open,
    /// Requests met by silence because the shard holds `halfopen_max` half-open IKE SAs.
    half_open_refused,
    /// Requests met by silence because they had waited too long, more having come than the shard can
    /// answer.
    half_open_late,
    /// Requests met by silence because the kernel was behind with Child SAs.
    half_open_kernel,
    /// Half-open IKE SAs dropped after `halfopen_timeout`.
    half_open_timeouts,
    /// COOKIE challenges sent.
    cookies_sent,
    /// COOKIEs that did not verify.
    cookies_wrong,
    /// Datagrams with a header or payload chain that does not decode.
    decode_errors,
    /// Datagrams of another major version.
    version_errors,
    /// Datagrams for an SPI that nobody here owns.
    unknown_spi,
    /// Encrypted messages whose integrity check failed.
    integrity_errors,
    /// Messages out of window, of the wrong role or exchange.
    unexpected,
    /// Requests that no policy matches.
    no_policy,
    /// Datagrams handed to the shard that owns them.
    forwarded,
    /// Datagrams dropped because the owner's mailbox was full.
    forward_dropped,
    /// Kernel requests that failed.
    kernel_failures,
    /// Addresses leased now.
    leases,
    /// Address requests met by an exhausted pool.
    leases_exhausted,
    /// Questions to the lookup thread.
    lookups,
    /// Handshakes that ended because a question had no good answer.
    lookup_failures,
    /// Unprotected error notifications sent.
    notifies_sent,
    /// Times the worker recovered from a fault of its own.
    faults,
}
