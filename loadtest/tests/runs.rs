//! Whole runs: against this tree's iked through two network namespaces, and where nobody answers.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const SCENARIO: &str = "[peers]\ncount = 300\nsources = \"10.64.0.0/24\"\n[responder]\n\
    address = \"192.0.2.1\"\nidentity = \"gateway.example\"\nnetwork = \"10.8.0.0/24\"\n\
    [auth]\nmethod = \"psk\"\nsecret = \"SECRET\"\n[arrival]\nsilence = 2\npatience = 60\n";

/// A scenario file and where its report goes, in a folder that goes with it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(scenario: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("scenario.toml"), scenario).unwrap();
        Self { folder }
    }

    fn scenario(&self) -> PathBuf {
        self.folder.path().join("scenario.toml")
    }

    fn report(&self) -> Value {
        let text = fs::read_to_string(self.folder.path().join("report.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// A run against this tree's iked.
    fn against_iked(&self) -> Output {
        self.run(self.load_script())
    }

    /// The script that makes the hosts and runs both programs.
    fn load_script(&self) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new(root.join("scripts/load.sh"));
        let bin = Path::new(env!("CARGO_BIN_EXE_ikeload")).parent().unwrap();
        assert!(bin.join("iked").exists(), "cargo build --bins comes first");
        command.env("IKED_LOAD_BIN", bin).arg(self.scenario());
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate of the gateway's and its key for iked, and the authority for both ends.
    fn certify_gateway(&self) {
        for folder in ["private", "certs", "ca"] {
            fs::create_dir(self.path(folder)).unwrap();
        }
        let root = [
            "-subj",
            "/CN=root",
            "-keyout",
            "root.key",
            "-out",
            "ca/root.pem",
        ];
        self.request(&root);
        let gateway = [
            "-subj",
            "/CN=gateway",
            "-addext",
            "subjectAltName=DNS:gateway.example",
        ];
        let by = [
            "-CA",
            "ca/root.pem",
            "-CAkey",
            "root.key",
            "-addext",
            "basicConstraints=CA:FALSE",
        ];
        let to = ["-keyout", "private/local.key", "-out", "certs/gateway.pem"];
        self.request(&[&gateway[..], &by, &to].concat());
    }

    fn request(&self, words: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-noenc", "-days", "2", "-newkey", "ec"]);
        command
            .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(words);
        let output = command.current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    /// A run in a network namespace where nobody else is.
    fn alone(&self, more: &[&str]) -> Output {
        let mut command = Command::new("unshare");
        command.args(["--net", env!("CARGO_BIN_EXE_ikeload")]);
        command.arg(self.scenario()).args(more);
        self.run(command)
    }

    fn run(&self, mut command: Command) -> Output {
        let folder = self.folder.path();
        command.arg("--json").arg(folder.join("report.json"));
        command.arg("--html").arg(folder.join("report.html"));
        command.output().unwrap()
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn peers_get_in_and_the_report_says_at_what_cost() {
    let scenario = SCENARIO.replace("SECRET", "open sesame");
    let more = "[steady]\nseconds = 1\ndelete = true\n[suite]\none_key_pair = true\n";
    let place = Place::new(&format!("{scenario}{more}"));
    let output = place.against_iked();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("300 of 300 peers up in "), "{said}");
    let report = place.report();
    assert_eq!(report["up"], 300);
    assert_eq!(report["lost"], 0);
    assert_eq!(report["handshake"]["count"], 300);
    for exchange in report["exchanges"].as_array().unwrap() {
        assert!(exchange[1]["count"].as_u64() >= Some(300), "{exchange}");
    }
    assert!(report["cpu_micros_per_sa"].as_f64().unwrap() > 0.0);
    let page = fs::read_to_string(place.folder.path().join("report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 4);
}

#[test]
fn peers_with_passwords_check_the_gateway_and_get_in_without_an_address() {
    let scenario = SCENARIO.replace("count = 300", "count = 40");
    let scenario = scenario.replace("method = \"psk\"\nsecret = \"SECRET\"", "AUTH");
    let place = Place::new("");
    place.certify_gateway();
    let folder = place.folder.path().display();
    let auth =
        format!("method = \"eap-mschapv2\"\npassword = \"geheim\"\nconfig_dir = \"{folder}\"");
    let suite = "[suite]\nvirtual_ip = false\n";
    fs::write(place.scenario(), scenario.replace("AUTH", &auth) + suite).unwrap();
    let users = (0..40).map(|peer| format!("user peer-{peer}.load.example geheim\n"));
    let mut command = place.load_script();
    command.env("IKED_LOAD_SET", users.collect::<String>());
    command.env("IKED_LOAD_AUTH", "eap \"mschap-v2\"");
    command.env("IKED_LOAD_POOL", "");
    command.env("IKED_LOAD_CONFIG_DIR", place.folder.path());
    let output = place.run(command);
    assert!(output.status.success(), "{}", text(&output));
    let report = place.report();
    assert_eq!(report["up"], 40);
    // Each has several rounds of IKE_AUTH.
    let exchanges = report["exchanges"].as_array().unwrap();
    let auth = exchanges.iter().find(|row| row[0] == "IKE_AUTH").unwrap();
    assert!(auth[1]["count"].as_u64() >= Some(4 * 40), "{auth}");
}

#[test]
fn peers_with_keys_get_in_each_by_its_own_certificate_or_its_key_on_file() {
    for (method, key) in [
        ("raw", "ecdsa-p256"),
        ("raw", "rsa-2048"),
        ("certificate", "ecdsa-p256"),
        ("certificate", "rsa-2048"),
    ] {
        let scenario = SCENARIO.replace("count = 300", "count = 60");
        let auth = format!("method = \"{method}\"\nkey = \"{key}\"");
        let scenario = scenario.replace("method = \"psk\"\nsecret = \"SECRET\"", &auth);
        let place = Place::new(&scenario);
        let output = place.against_iked();
        assert!(output.status.success(), "{auth}: {}", text(&output));
        let report = place.report();
        assert_eq!((&report["up"], &report["lost"]), (&60.into(), &0.into()));
    }
}

#[test]
fn peers_with_certificates_of_a_stranger_are_refused() {
    let scenario = SCENARIO.replace(
        "method = \"psk\"\nsecret = \"SECRET\"",
        "method = \"certificate\"",
    );
    let place = Place::new(&scenario.replace("count = 300", "count = 20"));
    let output = place.alone(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("peers with keys need --credentials DIR"));
    // An authority of the same name, but with another key than the gateway's.
    let other = place.path("other");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ikeload"));
    command.arg(place.scenario()).arg("--write-credentials");
    assert!(command.arg(&other).status().unwrap().success());
    let mut command = place.load_script();
    command.env("IKED_LOAD_CREDENTIALS", &other);
    let output = place.run(command);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let failure = &place.report()["failures"][0];
    assert_eq!(
        (&failure["count"], &failure["exchange"]),
        (&20.into(), &"IKE_AUTH".into())
    );
}

#[test]
fn peers_that_stay_are_rekeyed_and_probe_and_none_is_lost() {
    let scenario = SCENARIO.replace("SECRET", "open sesame");
    let scenario = scenario.replace("count = 300", "count = 50");
    let more = "[suite]\nike_lifetime = 6\nchild_lifetime = 5\n\
                [steady]\nseconds = 12\ndpd = 1\ndelete = true\n";
    let place = Place::new(&(scenario + more));
    let mut command = place.load_script();
    command
        .env("IKED_LOAD_SHARDS", "2")
        .args(["--threads", "2"]);
    let output = place.run(command);
    assert!(output.status.success(), "{}", text(&output));
    let report = place.report();
    let count = |name: &str| {
        let exchanges = report["exchanges"].as_array().unwrap();
        let row = exchanges.iter().find(|row| row[0] == name);
        row.map_or(0, |row| row[1]["count"].as_u64().unwrap())
    };
    // Two rekeys of each kind and more, each with a Delete; what is more than those is a probe.
    assert!(count("CREATE_CHILD_SA") >= 150, "{report}");
    assert!(
        count("INFORMATIONAL") >= count("CREATE_CHILD_SA") + 100,
        "{report}"
    );
    assert!(counts(&report, "ike_rekeys") >= 50, "{report}");
    assert!(counts(&report, "child_rekeys") >= 50, "{report}");
}

/// A run of 60 peers that stay for some seconds.
fn staying(more: &str) -> Place {
    let scenario = SCENARIO.replace("SECRET", "open sesame");
    Place::new(&(scenario.replace("count = 300", "count = 60") + more))
}

fn counts(report: &Value, what: &str) -> u64 {
    report["counts"][what].as_u64().unwrap_or(0)
}

#[test]
fn a_responder_that_rekeys_is_heard_and_counted() {
    let place = staying("[steady]\nseconds = 10\ndelete = true\n");
    let mut command = place.load_script();
    command.env("IKED_LOAD_LIFETIMES", "ikelifetime 5");
    let output = place.run(command);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let report = place.report();
    assert!(counts(&report, "ike_rekeys") >= 60, "{report}");
    let asked = report["counts"]["asked"]["CREATE_CHILD_SA"].as_u64();
    assert!(asked >= Some(60), "{report}");
    assert!(said.contains("begun by the responder: "), "{said}");
    assert_eq!(report["troubles"].as_array().map(Vec::len), Some(0));
}

#[test]
fn peers_that_roam_are_followed_and_none_is_lost() {
    let place =
        staying("[roam]\nevery = 2\nto = \"10.80.0.0/16\"\n[steady]\nseconds = 8\ndelete = true\n");
    let output = place.against_iked();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let report = place.report();
    // Each goes away and comes back; the responder looks each time whether the peer is there.
    assert!(counts(&report, "moves_begun") >= 90, "{report}");
    assert_eq!(
        counts(&report, "moves"),
        counts(&report, "moves_begun"),
        "{report}"
    );
    let asked = report["counts"]["asked"]["INFORMATIONAL"].as_u64();
    assert!(asked >= Some(counts(&report, "moves")), "{report}");
    assert!(said.contains(" moves done"), "{said}");
}

#[test]
fn peers_that_may_not_roam_say_so() {
    let place =
        staying("[roam]\nevery = 2\nto = \"10.80.0.0/16\"\n[steady]\nseconds = 4\ndelete = true\n");
    let mut command = place.load_script();
    command.env("IKED_LOAD_SET", "set nomobike");
    let output = place.run(command);
    let report = place.report();
    assert_eq!(counts(&report, "moves_begun"), 0, "{}", text(&output));
    let trouble = &report["troubles"][0];
    assert_eq!(
        (&trouble["exchange"], &trouble["reason"]),
        (&"INFORMATIONAL".into(), &"no MOBIKE".into())
    );
    assert!(trouble["peer"].as_str().unwrap().starts_with("peer-"));
}

#[test]
fn peers_that_go_come_again_with_and_without_a_delete() {
    for delete in [true, false] {
        let place = staying(&format!(
            "[reconnect]\nevery = 2\npart = 0.5\ndelete = {delete}\n[steady]\nseconds = 8\ndelete = true\n"
        ));
        let output = place.against_iked();
        assert!(output.status.success(), "{}", text(&output));
        let report = place.report();
        let gone = counts(&report, "gone");
        assert!(gone >= 60, "{report}");
        assert_eq!(report["reconnect"]["count"].as_u64(), Some(gone));
        assert_eq!((&report["up"], &report["lost"]), (&60.into(), &0.into()));
    }
}

#[test]
fn peers_behind_nats_share_an_address_and_are_found_where_their_nat_puts_them() {
    let more = "[nat]\noutside = \"10.96.0.0/24\"\npeers = 20\nremap = 3\n\
                [steady]\nseconds = 9\ndpd = 1\ndelete = true\n";
    let place = staying(more);
    let mut command = place.load_script();
    command.args(["--threads", "2"]);
    // Who learns of a changed port only from what comes, as without MOBIKE, sends its own there.
    command.env("IKED_LOAD_SET", "set nomobike");
    let output = place.run(command);
    assert!(output.status.success(), "{}", text(&output));
    let report = place.report();
    assert!(counts(&report, "remaps") >= 90, "{report}");
    // Both ends have seen the NAT.
    assert_eq!(counts(&report, "encapsulated"), 60, "{report}");
    assert_eq!((&report["up"], &report["lost"]), (&60.into(), &0.into()));
}

#[test]
fn slow_peers_get_in_late_and_the_others_do_not_wait() {
    let place = staying("rate = 100.0\n[slow]\npart = 0.2\nmillis = 900\n");
    let output = place.against_iked();
    assert!(output.status.success(), "{}", text(&output));
    let report = place.report();
    // Twelve of sixty, each with a request of IKE_SA_INIT and one of IKE_AUTH.
    assert!(counts(&report, "delayed") >= 24, "{report}");
    let handshake = |part: &str| report["handshake"][part].as_f64();
    assert!(handshake("p90") > Some(1_800.0), "{report}");
    assert!(handshake("p50") < handshake("p90"), "{report}");
}

#[test]
fn honest_peers_get_in_beside_a_flood_of_strangers() {
    let scenario = SCENARIO.replace("SECRET", "open sesame");
    let flood = "rate = 100.0\n[flood]\nrequests = 1000.0\nfrom = \"10.112.0.0/16\"\nanswers_by = \"astray\"\n";
    let place = Place::new(&(scenario + flood));
    let output = place.against_iked();
    assert!(output.status.success(), "{}", text(&output));
    let report = place.report();
    assert_eq!(report["up"], 300);
    // Three seconds and more; each is taken for somebody new and gets an answer, mostly a COOKIE.
    let count = |what: &str| report["flood"][what].as_u64().unwrap();
    assert!(count("sent") > 1_500, "{report}");
    assert!(count("answered") * 2 > count("sent"), "{report}");
}

#[test]
fn lost_datagrams_are_sent_again_until_all_are_in() {
    let scenario = SCENARIO.replace("SECRET", "open sesame");
    let scenario = scenario.replace("silence = 2", "silence = 60");
    let place = Place::new(&format!("{scenario}rate = 200.0\n[wire]\nloss = 0.05\n"));
    let output = place.against_iked();
    assert!(output.status.success(), "{}", text(&output));
    let report = place.report();
    let count = |what: &str| report["counts"][what].as_u64().unwrap();
    // Of 1200 datagrams and those that take the place of the lost; a tenth of them would have now and then
    // one lost five times in a row, and that takes a minute.
    assert!(count("wire_lost") > 30, "{report}");
    // Each exchange needs one request that arrives and whose response does: every loss costs one more.
    assert!(count("sent_again") >= count("wire_lost"), "{report}");
}

#[test]
fn who_is_not_let_in_is_named_with_exchange_and_reason() {
    let place = Place::new(&SCENARIO.replace("SECRET", "another secret"));
    let output = place.against_iked();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let report = place.report();
    assert_eq!(report["failed"], 300);
    let failure = &report["failures"][0];
    assert_eq!(failure["exchange"], "IKE_AUTH");
    let reason = failure["reason"].as_str().unwrap();
    assert!(reason.contains("AUTHENTICATION_FAILED"), "{reason}");
    assert!(failure["peer"].as_str().unwrap().starts_with("peer-"));
}

#[test]
fn where_nobody_answers_a_run_ends_with_a_report() {
    let place = Place::new(SCENARIO);
    let output = place.alone(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("cut short: nothing from 192.0.2.1 for 2 s"));
    assert_eq!(place.report()["up"], 0);
}

#[test]
fn a_responder_that_dies_ends_the_run() {
    let place = Place::new(&SCENARIO.replace("silence = 2", "silence = 60"));
    let mut other = Command::new("sleep").arg("1").spawn().unwrap();
    let output = place.alone(&["--pid", &other.id().to_string()]);
    other.wait().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("cut short: the responder's process is gone"));
}

#[test]
fn a_wrong_scenario_is_no_run() {
    let place = Place::new("[peers]\ncount = 1\n");
    let output = place.alone(&[]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output);
    assert!(
        said.contains("scenario.toml: 1: missing field `sources`"),
        "{said}"
    );
}
