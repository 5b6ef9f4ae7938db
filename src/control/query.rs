//! What our `ikectl` may ask to be shown beyond OpenIKED's requests, as the text of one frame:
//! `[json] WORD [ARGUMENT..]`. Both ends of the socket read and write it here.

use std::fmt;
use std::net::IpAddr;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The answer is for programs: a JSON object in each line.
    pub json: bool,
    /// What is to be shown.
    pub what: What,
}

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `sa`
    Sa,
    /// `stats`
    Stats,
    /// `certstore`
    Certstore,
    /// `policy`
    Policy,
    /// `pool`
    Pool,
    /// `explain`: the policy for a peer.
    Explain {
        /// The peer's address.
        address: IpAddr,
        /// Its identity as iked.conf(5) writes it, or as `show sa` does.
        id: Option<String>,
    },
}

impl Query {
    /// Reads the text of a frame.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split(' ').peekable();
        let json = words.next_if_eq(&"json").is_some();
        let what = match words.next().unwrap_or_default() {
            "sa" => What::Sa,
            "stats" => What::Stats,
            "certstore" => What::Certstore,
            "policy" => What::Policy,
            "pool" => What::Pool,
            "explain" => {
                let address = words.next().unwrap_or_default().parse();
                let rest: Vec<&str> = words.by_ref().collect();
                What::Explain {
                    address: address.map_err(|_| "explain: not an address".to_owned())?,
                    // A distinguished name has spaces.
                    id: (!rest.is_empty()).then(|| rest.join(" ")),
                }
            }
            other => return Err(format!("{other}: nothing to show")),
        };
        match words.next() {
            Some(word) => Err(format!("{word}: superfluous")),
            None => Ok(Self { json, what }),
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.json {
            f.write_str("json ")?;
        }
        match &self.what {
            What::Sa => f.write_str("sa"),
            What::Stats => f.write_str("stats"),
            What::Certstore => f.write_str("certstore"),
            What::Policy => f.write_str("policy"),
            What::Pool => f.write_str("pool"),
            What::Explain { address, id: None } => write!(f, "explain {address}"),
            What::Explain {
                address,
                id: Some(id),
            } => write!(f, "explain {address} {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        let address = "2001:db8::1".parse().unwrap();
        let id = Some("/C=DE/O=Some Body/CN=x".to_owned());
        let all = [
            What::Sa,
            What::Stats,
            What::Certstore,
            What::Policy,
            What::Pool,
            What::Explain { address, id: None },
            What::Explain { address, id },
        ];
        for what in all {
            for json in [false, true] {
                let query = Query {
                    json,
                    what: what.clone(),
                };
                assert_eq!(Query::parse(&query.to_string()), Ok(query));
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let refused = |text| Query::parse(text).unwrap_err();
        assert_eq!(refused(""), ": nothing to show");
        assert_eq!(refused("json"), ": nothing to show");
        assert_eq!(refused("sa json"), "json: superfluous");
        assert_eq!(refused("explain"), "explain: not an address");
        assert_eq!(refused("explain host.example"), "explain: not an address");
    }
}
