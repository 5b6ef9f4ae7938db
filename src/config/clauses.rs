//! The `ikev2` line of iked.conf(5). The order of its clauses is fixed; all but the hosts may be
//! left out.

use super::Diagnostic;
use super::ast::{
    AuthText, CfgText, Host, HostSpec, Hosts, NameOrNumber, PolicyText, Position, PpkText, Text,
    ThenText, Transforms,
};
use super::lexer::Kind;
use super::parser::{Parser, Read, unexpected};
use super::tables;
use crate::policy::Selection;

impl Parser<'_> {
    /// Reads what follows `ikev2`, without the end of the line.
    pub(super) fn policy(&mut self, at: Position) -> Read<PolicyText> {
        let mut policy = PolicyText::new(at);
        if self.at_string() {
            policy.name = Some(self.string()?);
        }
        self.flags(&mut policy);
        self.protocols(&mut policy)?;
        if self.at("rdomain") {
            let at = self.take().at;
            self.number()?;
            let message = "'rdomain' is not supported on this platform".to_owned();
            return Err(Diagnostic::at(&at, message));
        }
        self.all_hosts(&mut policy)?;
        self.peers(&mut policy)?;
        while self.at("ikesa") {
            let group = self.transforms()?;
            policy.ikesa.push(group);
        }
        while self.at("childsa") {
            let group = self.transforms()?;
            policy.childsa.push(group);
        }
        self.ids(&mut policy.srcid, &mut policy.dstid)?;
        self.lifetimes(&mut policy)?;
        policy.auth = self.auth()?;
        while self.at("then") {
            let then = self.then()?;
            policy.then.push(then);
        }
        while self.accept("ppk") {
            policy.ppks.push(self.ppk()?);
        }
        self.cfg(&mut policy)?;
        self.filters(&mut policy)?;
        Ok(policy)
    }

    fn flags(&mut self, policy: &mut PolicyText) {
        if self.accept("quick") {
            policy.selection = Selection::Quick;
        } else if self.accept("skip") {
            policy.selection = Selection::Skip;
        } else if self.accept("default") {
            policy.selection = Selection::Default;
        }
        policy.active = !self.accept("passive") && self.accept("active");
        policy.ipcomp = self.accept("ipcomp");
        policy.transport = !self.accept("tunnel") && self.accept("transport");
        policy.natt = self.accept("natt");
        policy.childless = self.accept("childless");
        policy.ah = !self.accept("esp") && self.accept("ah");
        if self.accept("inet") {
            policy.inet = Some(true);
        } else if self.accept("inet6") {
            policy.inet = Some(false);
        }
    }

    fn protocols(&mut self, policy: &mut PolicyText) -> Read<()> {
        if !self.accept("proto") {
            return Ok(());
        }
        if !self.accept_char(b'{') {
            policy.protocols.push(self.name_or_number()?);
            return Ok(());
        }
        loop {
            policy.protocols.push(self.name_or_number()?);
            if !self.accept_char(b',') && self.accept_char(b'}') {
                return Ok(());
            }
        }
    }

    fn name_or_number(&mut self) -> Read<NameOrNumber> {
        if let Kind::Number(number) = self.peek().kind {
            return Ok(NameOrNumber::Number(number, self.take().at));
        }
        Ok(NameOrNumber::Name(self.string()?))
    }

    fn all_hosts(&mut self, policy: &mut PolicyText) -> Read<()> {
        loop {
            let hosts = self.hosts()?;
            policy.hosts.push(hosts);
            let comma = self.accept_char(b',');
            if !comma && !self.at("from") && !self.at("to") {
                return Ok(());
            }
        }
    }

    fn hosts(&mut self) -> Read<Hosts> {
        let at = self.peek().at.clone();
        if self.accept("to") {
            let (to, to_port) = self.end()?;
            self.expect("from")?;
            let (from, from_port) = self.end()?;
            return Ok(Hosts {
                at,
                from,
                from_port,
                to,
                to_port,
            });
        }
        self.expect("from")?;
        let (from, from_port) = self.end()?;
        self.expect("to")?;
        let (to, to_port) = self.end()?;
        Ok(Hosts {
            at,
            from,
            from_port,
            to,
            to_port,
        })
    }

    fn end(&mut self) -> Read<(Host, Option<NameOrNumber>)> {
        let host = if self.accept("any") {
            Host::Any
        } else if self.accept("dynamic") {
            Host::Dynamic
        } else {
            let spec = self.host_spec()?;
            let mut pre_nat = None;
            if self.accept_char(b'(') {
                pre_nat = Some(self.host_spec()?);
                self.expect_char(b')')?;
            }
            Host::Spec { spec, pre_nat }
        };
        let port = if self.accept("port") {
            Some(self.name_or_number()?)
        } else {
            None
        };
        Ok((host, port))
    }

    fn host_spec(&mut self) -> Read<HostSpec> {
        let host = self.string()?;
        let len = if self.accept_char(b'/') {
            Some(self.number()?)
        } else {
            None
        };
        Ok(HostSpec { host, len })
    }

    fn any_host(&mut self) -> Read<Option<HostSpec>> {
        if self.accept("any") {
            Ok(None)
        } else {
            self.host_spec().map(Some)
        }
    }

    fn peers(&mut self, policy: &mut PolicyText) -> Read<()> {
        let whole = |spec| match spec {
            Some(spec) => Host::Spec {
                spec,
                pre_nat: None,
            },
            None => Host::Any,
        };
        for _ in 0..2 {
            if policy.peer.is_none() && self.accept("peer") {
                policy.peer = Some(whole(self.any_host()?));
            } else if policy.local.is_none() && self.accept("local") {
                policy.local = Some(whole(self.any_host()?));
            }
        }
        Ok(())
    }

    fn transforms(&mut self) -> Read<Transforms> {
        let mut group = Transforms {
            at: self.take().at,
            auth: Vec::new(),
            enc: Vec::new(),
            prf: Vec::new(),
            group: Vec::new(),
            esn: Vec::new(),
        };
        loop {
            if self.accept("esn") {
                group.esn.push(true);
                continue;
            }
            if self.accept("noesn") {
                group.esn.push(false);
                continue;
            }
            let list = if self.accept("auth") {
                &mut group.auth
            } else if self.accept("enc") {
                &mut group.enc
            } else if self.accept("prf") {
                &mut group.prf
            } else if self.accept("group") {
                &mut group.group
            } else {
                return Ok(group);
            };
            list.push(self.string()?);
        }
    }

    fn ids(&mut self, srcid: &mut Option<Text>, dstid: &mut Option<Text>) -> Read<()> {
        for _ in 0..2 {
            if srcid.is_none() && self.accept("srcid") {
                *srcid = Some(self.string()?);
            } else if dstid.is_none() && self.accept("dstid") {
                *dstid = Some(self.string()?);
            }
        }
        Ok(())
    }

    fn then(&mut self) -> Read<ThenText> {
        let mut then = ThenText {
            at: self.take().at,
            srcid: None,
            dstid: None,
            auth: None,
        };
        self.ids(&mut then.srcid, &mut then.dstid)?;
        then.auth = self.auth()?;
        Ok(then)
    }

    fn lifetimes(&mut self, policy: &mut PolicyText) -> Read<()> {
        if self.accept("ikelifetime") {
            policy.ike_lifetime = Some(self.time()?);
        }
        if self.accept("lifetime") {
            policy.lifetime = Some(self.time()?);
            if self.accept("bytes") {
                policy.bytes = Some(self.size()?);
            }
        }
        Ok(())
    }

    fn auth(&mut self) -> Read<Option<AuthText>> {
        if self.accept("psk") {
            let file = self.accept("file");
            let text = self.string()?;
            return Ok(Some(if file {
                AuthText::PskFile(text)
            } else {
                AuthText::Psk(text)
            }));
        }
        if self.accept("eap") {
            let methods = self.eap_methods()?;
            let user = if self.accept("user") {
                Some((self.string()?, self.string()?))
            } else {
                None
            };
            return Ok(Some(AuthText::Eap(methods, user)));
        }
        let other = ["then", "ppk", "offload"].iter().any(|word| self.at(word));
        if self.at_string() && !other {
            return Ok(Some(AuthText::Method(self.string()?)));
        }
        Ok(None)
    }

    /// What follows `ppk`.
    fn ppk(&mut self) -> Read<PpkText> {
        Ok(PpkText {
            id: self.string()?,
            file: self.accept("file"),
            secret: self.string()?,
            required: self.accept("required"),
        })
    }

    fn eap_methods(&mut self) -> Read<Vec<Text>> {
        if !self.accept_char(b'{') {
            return Ok(vec![self.string()?]);
        }
        let mut methods = Vec::new();
        loop {
            methods.push(self.string()?);
            self.accept_char(b',');
            if self.accept_char(b'}') {
                return Ok(methods);
            }
        }
    }

    fn cfg(&mut self, policy: &mut PolicyText) -> Read<()> {
        loop {
            let request = self.at("request");
            if !request && !self.at("config") {
                return Ok(());
            }
            self.take();
            let name = self.string()?;
            if !request && self.at("any") {
                return Err(unexpected(&self.take()));
            }
            let is_text = !request && tables::cfg_text(&name.text).is_some();
            let (value, text) = if is_text {
                (None, Some(self.string()?))
            } else {
                (self.any_host()?, None)
            };
            policy.config.push(CfgText {
                request,
                name,
                value,
                text,
            });
        }
    }

    fn filters(&mut self, policy: &mut PolicyText) -> Read<()> {
        if self.accept("iface") {
            policy.iface = Some(self.string()?);
        }
        loop {
            if self.accept("tag") {
                policy.tag = Some(self.string()?);
            } else if self.accept("tap") {
                policy.tap = Some(self.string()?);
            } else if self.accept("offload") {
                policy.offload = Some(self.string()?);
            } else {
                return Ok(());
            }
        }
    }
}

impl PolicyText {
    fn new(at: Position) -> Self {
        Self {
            at,
            name: None,
            selection: Selection::Last,
            active: false,
            ipcomp: false,
            transport: false,
            natt: false,
            childless: false,
            ah: false,
            inet: None,
            protocols: Vec::new(),
            hosts: Vec::new(),
            peer: None,
            local: None,
            ikesa: Vec::new(),
            childsa: Vec::new(),
            srcid: None,
            dstid: None,
            ike_lifetime: None,
            lifetime: None,
            bytes: None,
            auth: None,
            then: Vec::new(),
            ppks: Vec::new(),
            config: Vec::new(),
            iface: None,
            tag: None,
            tap: None,
            offload: None,
        }
    }
}
