//! Which scenario is played with which release: one table for each peer, one test for each cell that is
//! not `no`. `dry`: not under the rig, where another release shows the same, unless
//! `IKED_INTEROP_ALL` is set.

use super::release::{Release, play, play_dry};

/// `[column = Release, ..] module::scenario [yes or no, ..] ..`
macro_rules! table {
    ($columns:tt $($module:ident::$scenario:ident $cells:tt)*) => {
        $(mod $scenario {
            row! { $columns $cells crate::$module::$scenario }
        })*
    };
}

macro_rules! row {
    ([] [] $scenario:path) => {};
    ([$column:ident = $release:ident, $($columns:tt)*] [yes $($cells:tt)*] $scenario:path) => {
        #[test]
        fn $column() {
            super::play(super::Release::$release, $scenario);
        }
        row! { [$($columns)*] [$($cells)*] $scenario }
    };
    ([$column:ident = $release:ident, $($columns:tt)*] [dry $($cells:tt)*] $scenario:path) => {
        #[test]
        fn $column() {
            super::play_dry(super::Release::$release, $scenario);
        }
        row! { [$($columns)*] [$($cells)*] $scenario }
    };
    ([$column:ident = $release:ident, $($columns:tt)*] [no $($cells:tt)*] $scenario:path) => {
        row! { [$($columns)*] [$($cells)*] $scenario }
    };
}

mod strongswan {
    use super::{Release, play, play_dry};

    table! { [v5_9_8 = StrongSwan5_9_8, v6_0_1 = StrongSwan6_0_1,]
        road_warrior::psk_aes_gcm_x25519 [yes yes]
        road_warrior::psk_aes_cbc_sha2_x25519 [yes dry]
        road_warrior::psk_aes_gcm_ecp256 [yes dry]
        road_warrior::psk_aes_cbc_sha2_modp2048 [yes dry]
        road_warrior::raw_rsa_keys_aes_cbc_sha2_modp2048 [yes dry]
        road_warrior::raw_rsa_keys_aes_gcm_x25519 [yes yes]
        road_warrior::raw_ecdsa_keys_aes_gcm_ecp256 [yes yes]
        road_warrior::raw_ecdsa_keys_aes_cbc_sha2_x25519 [yes dry]
        road_warrior::the_gateway_has_an_ecdsa_key_and_the_client_an_rsa_key [yes dry]
        road_warrior::over_ipv6 [yes yes]
        road_warrior::over_ipv6_with_keys_and_aes_cbc [yes dry]
        road_warrior::addresses_of_both_families_are_assigned [yes yes]
        paths::a_wrong_key_exchange_is_tried_again_with_the_right_one [yes yes]
        paths::a_cookie_is_asked_for_and_taken [yes dry]
        paths::a_cookie_and_then_a_wrong_key_exchange [yes dry]
        paths::behind_a_nat [yes yes]
        paths::behind_a_nat_with_keys_and_aes_cbc [yes dry]
        paths::fragments_over_ipv4_with_rsa_keys [yes yes]
        paths::fragments_over_ipv6 [yes dry]
        paths::fragments_of_aes_cbc_behind_a_nat [yes dry]
        paths::no_fragments_where_the_gateway_says_so [yes dry]
        lifetimes::the_clients_liveness_probes_are_answered [yes dry]
        lifetimes::the_clients_delete_of_the_ike_sa_removes_everything [yes yes]
        lifetimes::the_clients_delete_of_the_child_sa_keeps_the_ike_sa [yes yes]
        lifetimes::reset_sa_deletes_at_the_client [yes dry]
        lifetimes::reset_id_deletes_the_one_that_is_named [yes dry]
        lifetimes::a_stopped_gateway_leaves_nothing_in_the_kernel [yes dry]
        lifetimes::a_client_that_comes_back_without_a_word_replaces_its_old_sa [dry yes]
        lifetimes::a_client_that_dies_in_mid_handshake_leaves_nothing [yes dry]
        lifetimes::one_two_and_four_shards_give_the_same_results [yes dry]
        refusals::a_wrong_secret_fails_authentication [yes dry]
        refusals::an_unknown_public_key_fails_authentication [yes dry]
        refusals::no_common_proposal [yes dry]
        refusals::disjoint_selectors_keep_the_ike_sa [yes dry]
        refusals::no_common_esp_proposal_keeps_the_ike_sa [yes dry]
        rekey::the_client_rekeys_its_child_sa [yes yes]
        rekey::the_client_rekeys_its_child_sa_with_key_exchange [yes yes]
        rekey::a_client_that_insists_on_key_exchange_gets_it_unasked [yes dry]
        rekey::another_method_is_asked_for_in_a_rekey [yes dry]
        rekey::the_client_rekeys_the_ike_sa [yes yes]
        rekey::the_gateway_rekeys_the_ike_sa [dry yes]
        rekey::the_gateway_rekeys_the_child_sa [yes dry]
        rekey::no_packet_is_lost_to_rekeys_by_both_sides [yes yes]
        mobility::a_client_moves_to_another_address [yes yes]
        mobility::a_client_moves_behind_a_nat [yes dry]
        mobility::a_nat_forgets_a_client_without_mobike [dry yes]
        mobility::a_nat_forgets_a_client_with_mobike [dry yes]
        roles::a_client_is_sent_to_another_address [yes yes]
        roles::a_client_comes_without_a_child_sa_and_asks_for_one_later [yes yes]
        roles::the_gateway_begins_with_a_secret [yes yes]
        roles::the_gateway_begins_with_raw_ecdsa_keys [yes yes]
        roles::the_gateway_tries_again_with_the_key_exchange_that_the_client_wants [yes dry]
        children::the_client_asks_for_a_second_child_sa [yes yes]
        children::the_gateway_makes_its_child_sa_again [yes no]
        children::the_client_begins_in_transport_mode [yes dry]
        children::the_gateway_begins_in_transport_mode [dry yes]
        children::both_sides_rekey_the_ike_sa_at_once [yes dry]
        children::both_sides_rekey_the_child_sa_at_once [dry yes]
        lifetimes::a_gateway_that_died_is_noticed_by_the_client [dry yes]
        lifetimes::a_client_that_died_is_noticed_by_the_gateway [yes no]
        roles::the_gateway_begins_with_rsa_keys_in_fragments [dry yes]
        roles::the_gateway_begins_and_deletes_at_the_client [yes dry]
        notices::iked_tells_its_peer_when_an_address_of_its_own_changes [yes no]
        notices::a_packet_brings_the_tunnel_back_and_none_leaves_in_the_clear [yes no]
        notices::a_flow_that_the_client_left_out_gets_a_child_sa_of_its_own_when_it_is_used [yes no]
        notices::a_peer_that_sends_nothing_back_is_asked_soon [yes no]
        credentials::certificates_of_one_authority [yes yes]
        credentials::intermediate_authorities_on_both_sides [yes dry]
        credentials::a_certificate_of_a_stranger_is_refused [yes dry]
        credentials::a_certificate_of_another_user_is_refused [yes dry]
        credentials::the_gateway_begins_with_certificates [yes dry]
        credentials::a_password_gets_in [yes yes]
        credentials::a_wrong_password_does_not [yes dry]
        roles::the_gateway_asks_for_addresses_of_both_families [yes yes]
        roles::the_client_limits_how_long_an_authentication_counts [dry yes]
        lossy::the_client_rekeys_over_a_lossy_wire [dry yes]
        lossy::the_gateway_rekeys_over_a_lossy_wire [dry yes]
        lossy::fragments_pass_a_lossy_wire [yes dry]
        lossy::a_client_moves_over_a_lossy_wire [dry yes]
        lossy::the_gateway_begins_over_a_lossy_wire [yes dry]
    }
}

mod libreswan {
    use super::{Release, play, play_dry};

    table! { [v4_10 = Libreswan4_10, v5_2 = Libreswan5_2,]
        libreswan_scenarios::psk_aes_gcm_x25519 [yes yes]
        libreswan_scenarios::psk_aes_cbc_sha2_x25519 [yes yes]
        libreswan_scenarios::psk_aes_gcm_ecp256 [yes dry]
        libreswan_scenarios::psk_aes_cbc_sha2_modp2048 [yes dry]
        libreswan_scenarios::raw_rsa_keys_with_pss_on_both_sides_aes_cbc_sha2_modp2048 [yes dry]
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
        libreswan_scenarios::no_common_proposal [yes dry]
        libreswan_scenarios::disjoint_selectors_keep_the_ike_sa_until_the_client_deletes_it [yes dry]
        libreswan_scenarios::no_common_esp_proposal_keeps_the_ike_sa [yes dry]
        libreswan_scenarios::reset_sa_deletes_at_the_client [yes dry]
        libreswan_rekey::the_client_rekeys [yes yes]
        libreswan_rekey::the_client_rekeys_with_key_exchange [yes yes]
        libreswan_rekey::the_gateway_rekeys [yes yes]
        libreswan_rekey::the_gateway_rekeys_with_key_exchange [yes yes]
        libreswan_rekey::the_gateway_begins [yes yes]
        libreswan_rekey::in_transport_mode [yes yes]
        libreswan_rekey::a_gateway_that_died_is_noticed_by_the_client [yes yes]
        libreswan_rekey::both_sides_rekey_over_a_lossy_wire [yes yes]
    }
}

mod openiked {
    use super::{Release, play};

    table! { [v7_2 = OpenIked7_2, v7_4 = OpenIked7_4,]
        openiked_scenarios::the_peer_begins_aes_cbc_x25519 [yes yes]
        openiked_scenarios::the_peer_begins_aes_gcm_ecp256 [yes yes]
        openiked_scenarios::the_gateway_begins_aes_cbc_x25519 [yes yes]
        openiked_scenarios::the_gateway_begins_aes_gcm_ecp256 [yes yes]
        openiked_scenarios::raw_ecdsa_keys_where_the_peer_begins [yes yes]
        openiked_scenarios::raw_rsa_keys_where_the_gateway_begins [yes yes]
        openiked_scenarios::the_gateway_rekeys [yes yes]
        openiked_scenarios::the_peer_rekeys [yes yes]
        openiked_scenarios::in_transport_mode [yes yes]
        openiked_scenarios::fragments_of_both_sides [yes yes]
        openiked_scenarios::the_peer_begins_over_a_lossy_wire [yes yes]
        openiked_scenarios::the_gateway_begins_over_a_lossy_wire [yes yes]
        openiked_scenarios::both_sides_rekey_the_ike_sa_at_once [yes yes]
        openiked_scenarios::an_address_is_assigned_to_the_peer [yes yes]
        openiked_scenarios::the_peer_assigns_an_address [yes yes]
    }
}
