//! Which scenario is played with which release: one table for each peer, one test for each cell that
//! this kernel and this run can play. The list is made at run time, so that what cannot be played is
//! not counted as passed.
//!
//! What has no cell because the peer cannot do it:
//! - libreswan asks for an address of one family, that of its `leftsubnet`; for each there is a row.
//! - libreswan survives no two rekeys of the IKE SA at once: while it computes for the gateway's request
//!   it discards the answer to its own (4.10: `discarding packet received during asynchronous work`, 5.2:
//!   `EXPECTATION FAILED: state already has outstanding crypto`), or keeps both IKE SAs.
//! - libreswan that answers the gateway's rekey of a Child SA while its own is out, and whose own stays, may have no
//!   policy left in its kernel: its next packet makes it ask for one more Child SA, beside the one that stayed. 4.10
//!   may also discard the answer to its own rekey, as above, and then passes nothing for many seconds: no cell.
//! - libreswan loads no certificate that has expired or is not yet valid: one row has it expire later.
//! - OpenIKED has no REDIRECT (RFC 5685), and is MOBIKE's responder only (iked.conf(5)): its client moves
//!   nowhere. It puts all flows of a policy into one Child SA and takes all of ours into one, so only
//!   its kernel makes it ask for a second.

use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};

use libtest_mimic::Trial;

use super::authority;
use super::impostors::{IMPOSTORS, Impostor};
use super::release::{Release, play};
use super::world::coupled;

/// Where a scenario is played with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// With and without ESP in the kernel.
    Yes,
    /// Without ESP; with it, where another release shows the same, only if `IKED_INTEROP_ALL` is set.
    Dry,
    /// Only where the kernel has ESP.
    Rig,
    /// Only where the kernel has ESP, and if `IKED_INTEROP_ALL` is set.
    All,
    /// Only where the kernel has ESP and is not user-mode Linux, which has no XFRM interfaces.
    Qemu,
    /// Never: the peer cannot, or another release shows it.
    No,
}

impl Cell {
    /// `make test` plays everything once: `IKED_INTEROP_CELLS` is `none` beside the other tests, and
    /// `dry` beside the rig, for what the rig does not play.
    fn is_played(self) -> bool {
        match env::var("IKED_INTEROP_CELLS").as_deref() {
            Ok("none") => return false,
            Ok("dry") if self != Self::Dry => return false,
            Ok(_) | Err(_) => {}
        }
        let all = env::var_os("IKED_INTEROP_ALL").is_some();
        match self {
            Self::Yes => true,
            Self::Dry => !coupled() || all,
            Self::Rig => coupled(),
            Self::All => coupled() && all,
            Self::Qemu => coupled() && env::var("IKED_RIG").as_deref() != Ok("uml"),
            Self::No => false,
        }
    }
}

/// A scenario, and its cell for each release of the peer.
struct Row {
    name: &'static str,
    scenario: fn(),
    cells: [Cell; 2],
}

/// A peer: its releases and what is played with them.
struct Table {
    peer: &'static str,
    releases: [(&'static str, Release); 2],
    rows: &'static [Row],
}

impl Table {
    fn trials(&self) -> Vec<Trial> {
        let mut trials = Vec::new();
        for row in self.rows {
            for ((column, release), cell) in self.releases.into_iter().zip(row.cells) {
                if cell.is_played() {
                    let name = format!("{}::{}::{column}", self.peer, row.name);
                    let scenario = row.scenario;
                    trials.push(Trial::test(name, move || {
                        play(release, scenario);
                        Ok(())
                    }));
                }
            }
        }
        trials
    }
}

/// Every test of this run: all, or with `IKED_INTEROP_PART=K/N` those whose turn it is when they go around
/// N guests, shuffled by their names, for neighbours take about as long.
pub fn trials() -> Vec<Trial> {
    let tables = [STRONGSWAN, LIBRESWAN, OPENIKED];
    let mut trials: Vec<Trial> = tables.iter().flat_map(Table::trials).collect();
    trials.extend(impostors());
    trials.extend(ourselves());
    let Ok(part) = env::var("IKED_INTEROP_PART") else {
        return trials;
    };
    let (turn, guests) = part.split_once('/').unwrap();
    let (turn, guests): (usize, usize) = (turn.parse().unwrap(), guests.parse().unwrap());
    assert!((1..=guests).contains(&turn), "IKED_INTEROP_PART={part}");
    trials.sort_by_cached_key(|trial| {
        let mut hasher = DefaultHasher::new();
        trial.name().hash(&mut hasher);
        hasher.finish()
    });
    trials.into_iter().skip(turn - 1).step_by(guests).collect()
}

/// Our daemon at both ends.
fn ourselves() -> Option<Trial> {
    let name = "iked::two_hosts_of_one_authority";
    let trial = Trial::test(name, || {
        authority::two_hosts_of_one_authority();
        Ok(())
    });
    Cell::Yes.is_played().then_some(trial)
}

/// Each row of `impostors.rs` with each peer that can try it, in each role that it can have.
fn impostors() -> Vec<Trial> {
    let mut trials = Vec::new();
    for one in IMPOSTORS {
        let mut add = |table: &Table, cells: [Cell; 2], role, play_it: fn(&Impostor)| {
            let releases = table.releases.into_iter().zip(cells);
            for ((column, release), _) in releases.filter(|(_, cell)| cell.is_played()) {
                let name = format!("{}::refused::{}_{role}::{column}", table.peer, one.name);
                trials.push(Trial::test(name, move || {
                    play(release, || play_it(one));
                    Ok(())
                }));
            }
        };
        let cells = [Cell::Dry, Cell::Yes];
        add(&STRONGSWAN, cells, "begins", Impostor::begins);
        if one.answers {
            add(&STRONGSWAN, cells, "answers", Impostor::answers);
        }
        if one.libreswan {
            let cells = [Cell::Yes, Cell::Dry];
            add(&LIBRESWAN, cells, "begins", Impostor::libreswan_begins);
            if one.answers {
                add(&LIBRESWAN, cells, "answers", Impostor::libreswan_answers);
            }
        }
        if one.openiked.is_some() {
            let cells = [Cell::All, Cell::Rig];
            add(&OPENIKED, cells, "begins", Impostor::openiked_begins);
            if one.answers {
                add(&OPENIKED, cells, "answers", Impostor::openiked_answers);
            }
        }
    }
    trials
}

macro_rules! rows {
    ($($module:ident::$scenario:ident [$($cell:ident)*])*) => {
        &[$(Row {
            name: stringify!($scenario),
            scenario: crate::$module::$scenario,
            cells: [$(cell!($cell)),*],
        }),*]
    };
}

macro_rules! cell {
    (yes) => {
        Cell::Yes
    };
    (dry) => {
        Cell::Dry
    };
    (rig) => {
        Cell::Rig
    };
    (all) => {
        Cell::All
    };
    (qemu) => {
        Cell::Qemu
    };
    (no) => {
        Cell::No
    };
}

const STRONGSWAN: Table = Table {
    peer: "strongswan",
    releases: [
        ("v5_9_8", Release::StrongSwan5_9_8),
        ("v6_0_1", Release::StrongSwan6_0_1),
    ],
    rows: STRONGSWAN_ROWS,
};

const LIBRESWAN: Table = Table {
    peer: "libreswan",
    releases: [
        ("v4_10", Release::Libreswan4_10),
        ("v5_2", Release::Libreswan5_2),
    ],
    rows: LIBRESWAN_ROWS,
};

const OPENIKED: Table = Table {
    peer: "openiked",
    releases: [
        ("v7_2", Release::OpenIked7_2),
        ("v7_4", Release::OpenIked7_4),
    ],
    rows: OPENIKED_ROWS,
};

const STRONGSWAN_ROWS: &[Row] = rows! {
    road_warrior::psk_aes_gcm_x25519 [yes yes]
    road_warrior::psk_aes_cbc_sha2_x25519 [dry yes]
    road_warrior::psk_aes_gcm_ecp256 [dry yes]
    road_warrior::psk_aes_cbc_sha2_modp2048 [dry yes]
    road_warrior::raw_rsa_keys_aes_cbc_sha2_modp2048 [dry yes]
    road_warrior::raw_rsa_keys_aes_gcm_x25519 [dry yes]
    road_warrior::raw_ecdsa_keys_aes_gcm_ecp256 [yes yes]
    road_warrior::raw_ecdsa_keys_aes_cbc_sha2_x25519 [dry yes]
    road_warrior::the_gateway_has_an_ecdsa_key_and_the_client_an_rsa_key [dry yes]
    road_warrior::over_ipv6 [yes yes]
    road_warrior::over_ipv6_with_keys_and_aes_cbc [dry yes]
    road_warrior::addresses_of_both_families_are_assigned [yes dry]
    paths::a_wrong_key_exchange_is_tried_again_with_the_right_one [yes dry]
    paths::a_cookie_is_asked_for_and_taken [dry yes]
    paths::a_cookie_and_then_a_wrong_key_exchange [dry yes]
    paths::behind_a_nat [yes yes]
    paths::behind_a_nat_with_keys_and_aes_cbc [dry yes]
    paths::fragments_over_ipv4_with_rsa_keys [dry yes]
    paths::fragments_over_ipv6 [dry yes]
    paths::fragments_of_aes_cbc_behind_a_nat [dry yes]
    paths::no_fragments_where_the_gateway_says_so [dry yes]
    lifetimes::the_clients_liveness_probes_are_answered [yes dry]
    lifetimes::the_clients_delete_of_the_ike_sa_removes_everything [yes yes]
    lifetimes::the_clients_delete_of_the_child_sa_keeps_the_ike_sa [dry yes]
    lifetimes::reset_sa_deletes_at_the_client [yes dry]
    lifetimes::reset_id_deletes_the_one_that_is_named [yes dry]
    lifetimes::a_stopped_gateway_leaves_nothing_in_the_kernel [yes dry]
    lifetimes::a_client_that_comes_back_without_a_word_replaces_its_old_sa [dry yes]
    lifetimes::a_client_that_comes_back_without_a_word_keeps_its_address [dry yes]
    lifetimes::a_client_that_dies_in_mid_handshake_leaves_nothing [yes dry]
    lifetimes::one_two_and_four_shards_give_the_same_results [yes dry]
    refusals::no_common_proposal [yes dry]
    refusals::disjoint_selectors_keep_the_ike_sa [yes dry]
    refusals::no_common_esp_proposal_keeps_the_ike_sa [yes dry]
    rekey::the_client_rekeys_its_child_sa [yes yes]
    rekey::the_client_rekeys_its_child_sa_with_key_exchange [dry yes]
    rekey::a_client_that_insists_on_key_exchange_gets_it_unasked [yes dry]
    rekey::another_method_is_asked_for_in_a_rekey [yes dry]
    rekey::the_client_rekeys_the_ike_sa [yes yes]
    rekey::the_gateway_rekeys_the_ike_sa [dry yes]
    rekey::the_gateway_rekeys_the_child_sa [rig all]
    rekey::no_packet_is_lost_to_rekeys_by_both_sides [rig rig]
    mobility::a_client_moves_to_another_address [yes yes]
    mobility::a_client_moves_behind_a_nat [yes dry]
    mobility::a_nat_forgets_a_client_without_mobike [dry yes]
    mobility::a_nat_forgets_a_client_with_mobike [dry yes]
    children::the_client_begins_in_transport_mode_behind_a_nat [rig rig]
    lifetimes::a_byte_limit_replaces_the_child_sa_in_time [rig all]
    lifetimes::a_child_sa_whose_bytes_are_used_up_is_made_anew [rig all]
    kernels::over_pf_key [rig all]
    kernels::by_routes_through_an_xfrm_interface [qemu qemu]
    ciphers::every_cipher_of_esp [all rig]
    ciphers::every_checksum_of_ah [all rig]
    compression::the_client_begins_with_compression [rig rig]
    compression::the_gateway_begins_with_compression [rig all]
    compression::a_client_that_does_not_compress_gets_in_without [rig all]
    roles::a_client_is_sent_to_another_address [dry yes]
    roles::a_client_comes_without_a_child_sa_and_asks_for_one_later [yes dry]
    roles::the_gateway_begins_with_a_secret [yes yes]
    roles::the_gateway_begins_without_a_child_sa [dry dry]
    roles::the_gateway_begins_without_a_child_sa_only_where_it_may [dry all]
    roles::the_gateway_begins_with_raw_ecdsa_keys [dry yes]
    roles::the_gateway_tries_again_with_the_key_exchange_that_the_client_wants [yes dry]
    children::the_client_asks_for_a_second_child_sa [yes yes]
    children::the_gateway_makes_its_child_sa_again [yes no]
    children::the_client_begins_in_transport_mode [rig all]
    children::the_gateway_begins_in_transport_mode [all rig]
    children::both_sides_rekey_the_ike_sa_at_once [yes dry]
    children::both_sides_rekey_the_child_sa_at_once [all rig]
    lifetimes::a_gateway_that_died_is_noticed_by_the_client [dry yes]
    lifetimes::a_client_that_died_is_noticed_by_the_gateway [rig no]
    roles::the_gateway_begins_with_rsa_keys_in_fragments [dry yes]
    roles::the_gateway_begins_and_deletes_at_the_client [yes dry]
    notices::iked_tells_its_peer_when_an_address_of_its_own_changes [rig no]
    notices::a_packet_brings_the_tunnel_back_and_none_leaves_in_the_clear [rig no]
    notices::a_flow_that_the_client_left_out_gets_a_child_sa_of_its_own_when_it_is_used [rig no]
    notices::a_peer_that_sends_nothing_back_is_asked_soon [rig no]
    credentials::certificates_of_one_authority [yes yes]
    authority::the_walk_through_leads_to_a_tunnel [yes dry]
    authority::whom_the_authority_has_revoked_stays_outside [yes dry]
    credentials::intermediate_authorities_on_both_sides [yes dry]
    credentials::the_gateway_begins_with_certificates [yes dry]
    revocation::a_certificate_that_its_responder_calls_good_gets_in [yes dry]
    revocation::a_certificate_that_its_responder_calls_revoked_is_refused [yes dry]
    revocation::a_certificate_that_is_on_no_list_gets_in [dry dry]
    revocation::a_certificate_that_the_list_revokes_is_refused [dry dry]
    revocation::the_client_shows_what_its_responder_said [no dry]
    revocation::the_gateway_shows_what_its_responder_said [no dry]
    credentials::a_password_gets_in [yes yes]
    credentials::a_wrong_password_does_not [yes dry]
    radius::a_password_that_freeradius_knows [yes dry]
    radius::a_password_that_freeradius_does_not_know [yes dry]
    radius::eap_tls_through_freeradius [dry yes]
    radius::a_password_inside_ttls_through_freeradius [yes dry]
    radius::a_password_inside_peap_through_freeradius [yes no]
    radius::a_server_ends_an_ike_sa [yes dry]
    radius::an_accounting_server_is_told_of_a_session_from_start_to_stop [dry yes]
    radius::a_silent_accounting_server_holds_up_nobody [yes dry]
    radius::a_dead_server_is_left_for_the_next [yes dry]
    radius::a_silent_server_is_left_for_the_next_and_holds_up_nobody_else [yes dry]
    radius::without_any_server_the_client_is_refused [yes dry]
    credentials::a_client_with_nothing_but_md5_gets_in [yes dry]
    credentials::a_client_with_nothing_but_gtc_gets_in [yes dry]
    credentials::a_certificate_gets_in_by_tls_1_2 [yes dry]
    credentials::a_certificate_gets_in_by_tls_1_3 [no yes]
    credentials::a_certificate_of_a_stranger_is_refused_by_tls [yes dry]
    credentials::the_gateway_begins_with_tls_1_2 [yes dry]
    credentials::the_gateway_begins_with_tls_1_3 [no yes]
    credentials::the_gateway_begins_with_a_password [yes dry]
    credentials::the_gateway_begins_with_a_password_and_md5 [yes dry]
    credentials::the_gateway_begins_with_a_wrong_password [yes dry]
    ppk::a_client_with_the_ppk_that_is_required [dry yes]
    ppk::a_client_with_raw_keys_and_a_ppk_that_it_may_leave_out [yes dry]
    ppk::a_client_with_another_ppk_gets_in_without [dry yes]
    ppk::a_client_without_a_ppk_gets_in_where_it_may [dry dry]
    ppk::a_password_and_a_ppk [dry yes]
    ppk::a_password_and_a_ppk_of_the_client_that_the_gateway_has_not [dry dry]
    ppk::the_gateway_begins_with_the_ppk_that_is_required [yes yes]
    ppk::the_gateway_begins_with_raw_keys_and_a_ppk_that_may_be_left_out [yes dry]
    ppk::the_gateway_begins_with_a_ppk_that_the_client_has_not [dry dry]
    rounds::a_client_with_a_secret_and_then_a_password [yes dry]
    rounds::a_client_with_a_certificate_and_then_a_password [dry yes]
    rounds::a_client_with_a_password_and_then_a_secret [dry dry]
    rounds::the_gateway_begins_with_a_secret_and_then_a_password [yes yes]
    rounds::the_gateway_begins_with_a_certificate_and_then_a_secret [yes dry]
    rounds::a_client_that_stops_after_the_first_is_refused [dry dry]
    rounds::a_wrong_password_after_the_secret_is_refused [dry dry]
    roles::the_gateway_asks_for_addresses_of_both_families [yes dry]
    roles::the_gateway_is_told_for_which_domains_the_name_servers_are [dry yes]
    lifetimes::the_gateway_limits_how_long_an_authentication_counts [yes dry]
    roles::the_client_limits_how_long_an_authentication_counts [dry yes]
    lossy::the_client_rekeys_over_a_lossy_wire [all rig]
    lossy::the_gateway_rekeys_over_a_lossy_wire [all rig]
    lossy::fragments_pass_a_lossy_wire [rig all]
    lossy::a_client_moves_over_a_lossy_wire [all rig]
    lossy::the_gateway_begins_over_a_lossy_wire [rig all]
};

const LIBRESWAN_ROWS: &[Row] = rows! {
    libreswan_scenarios::psk_aes_gcm_x25519 [yes yes]
    libreswan_scenarios::psk_aes_cbc_sha2_x25519 [yes yes]
    libreswan_scenarios::psk_aes_gcm_ecp256 [yes dry]
    libreswan_scenarios::psk_aes_cbc_sha2_modp2048 [yes dry]
    libreswan_scenarios::raw_rsa_keys_with_pss_on_both_sides_aes_cbc_sha2_modp2048 [yes dry]
    libreswan_scenarios::raw_rsa_keys_with_nothing_but_pss [yes dry]
    libreswan_scenarios::the_gateway_begins_with_pss [yes dry]
    libreswan_scenarios::raw_rsa_keys_by_method_1_aes_gcm_x25519 [yes dry]
    libreswan_scenarios::raw_ecdsa_keys_aes_gcm_ecp256 [yes yes]
    libreswan_scenarios::the_client_has_an_ecdsa_key_and_the_gateway_an_rsa_key [yes dry]
    libreswan_scenarios::over_ipv6 [yes yes]
    libreswan_scenarios::an_ipv6_address_is_assigned [yes yes]
    libreswan_scenarios::networks_without_an_assigned_address [yes yes]
    libreswan_scenarios::a_wrong_key_exchange_is_tried_again_with_the_right_one [yes dry]
    libreswan_scenarios::a_cookie_is_asked_for_and_taken [yes dry]
    libreswan_scenarios::behind_a_nat [yes yes]
    libreswan_scenarios::fragments_with_rsa_keys [yes dry]
    libreswan_scenarios::a_wrong_secret_fails_authentication [yes dry]
    impostors::a_certificate_expires_after_pluto_has_loaded_it [dry dry]
    libreswan_scenarios::no_common_proposal [yes dry]
    libreswan_scenarios::disjoint_selectors_keep_the_ike_sa_until_the_client_deletes_it [yes dry]
    libreswan_scenarios::no_common_esp_proposal_keeps_the_ike_sa [yes dry]
    libreswan_scenarios::reset_sa_deletes_at_the_client [yes dry]
    ppk::a_libreswan_client_with_the_ppk_that_is_required [yes yes]
    ppk::a_libreswan_client_with_another_ppk_gets_in_without [yes yes]
    ppk::the_gateway_begins_with_the_ppk_that_libreswan_requires [all rig]
    ppk::the_gateway_begins_with_a_ppk_that_libreswan_has_not [all rig]
    libreswan_rekey::the_client_rekeys [rig rig]
    libreswan_rekey::the_client_rekeys_with_key_exchange [all rig]
    libreswan_rekey::the_gateway_rekeys [rig rig]
    libreswan_rekey::the_gateway_rekeys_with_key_exchange [all rig]
    libreswan_rekey::the_gateway_begins [rig rig]
    libreswan_rekey::in_transport_mode [rig rig]
    ciphers::every_cipher_of_esp_with_libreswan [all rig]
    ciphers::every_checksum_of_ah_with_libreswan [all rig]
    libreswan_rekey::a_gateway_that_died_is_noticed_by_the_client [rig rig]
    libreswan_rekey::both_sides_rekey_over_a_lossy_wire [rig rig]
    libreswan_children::the_client_asks_for_a_second_child_sa [rig rig]
    libreswan_children::the_gateway_asks_for_a_second_child_sa [all rig]
    libreswan_children::both_sides_rekey_the_child_sa_at_once [no rig]
    libreswan_children::a_client_that_died_is_noticed_by_the_gateway [all rig]
    libreswan_children::the_peer_assigns_an_address [all rig]
    libreswan_moves::a_client_moves_to_another_address [rig rig]
    libreswan_moves::the_gateway_moves_to_another_address [rig rig]
    libreswan_moves::a_nat_forgets_a_client [all rig]
    libreswan_moves::a_client_is_sent_to_another_address [all rig]
    libreswan_moves::the_gateway_is_sent_to_another_address [all rig]
};

const OPENIKED_ROWS: &[Row] = rows! {
    openiked_scenarios::the_peer_begins_aes_cbc_x25519 [rig rig]
    openiked_scenarios::the_peer_begins_aes_gcm_ecp256 [all rig]
    openiked_scenarios::the_gateway_begins_aes_cbc_x25519 [all rig]
    openiked_scenarios::the_gateway_begins_aes_gcm_ecp256 [rig rig]
    openiked_scenarios::raw_ecdsa_keys_where_the_peer_begins [rig rig]
    openiked_scenarios::raw_rsa_keys_where_the_gateway_begins [all rig]
    openiked_scenarios::the_gateway_rekeys [rig rig]
    openiked_scenarios::the_peer_rekeys [rig rig]
    openiked_scenarios::the_gateway_rekeys_by_the_hybrid_group [all rig]
    openiked_scenarios::the_peer_rekeys_by_the_hybrid_group [all rig]
    openiked_scenarios::in_transport_mode [rig rig]
    ciphers::every_cipher_that_its_pf_key_has [all rig]
    openiked_scenarios::fragments_of_both_sides [all rig]
    openiked_scenarios::the_peer_begins_over_a_lossy_wire [all rig]
    openiked_scenarios::the_gateway_begins_over_a_lossy_wire [all rig]
    openiked_scenarios::both_sides_rekey_over_a_lossy_wire_after_the_peer_began [rig rig]
    openiked_scenarios::both_sides_rekey_over_a_lossy_wire_after_the_gateway_began [all rig]
    openiked_scenarios::both_sides_rekey_the_ike_sa_at_once [all rig]
    openiked_scenarios::an_address_is_assigned_to_the_peer [rig rig]
    openiked_scenarios::the_peer_assigns_an_address [rig rig]
    authority::openiked_of_the_same_authority_begins [all rig]
    authority::openiked_of_the_same_authority_answers [all rig]
    openiked_control::our_ikectl_controls_the_peer [all rig]
    openiked_lives::the_peer_asks_for_a_second_child_sa [all rig]
    openiked_lives::the_gateway_moves_to_another_address [rig rig]
    openiked_lives::a_nat_forgets_the_peer [rig rig]
    openiked_lives::both_sides_rekey_the_child_sa_at_once [all rig]
    openiked_lives::a_gateway_that_died_is_noticed_by_the_peer [all rig]
    openiked_lives::a_peer_that_died_is_noticed_by_the_gateway [all rig]
    openiked_lives::the_peer_assigns_addresses_of_both_families [all rig]
};
