//! `index.txt` and `serial.txt` as `openssl ca` keeps them, so that either program can go on with
//! what the other did. Lines that are not understood stay as they are.

use std::time::Duration;

use boring::bn::BigNum;
use der::DateTime;

use super::CaError;

/// What was issued, one line each: state, expiry, revocation, serial number, file, subject.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(Vec<String>);

/// A certificate that no longer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revoked {
    /// Big-endian.
    pub(super) serial: Vec<u8>,
    /// Seconds since 1970.
    pub(super) at: u64,
    /// The word that OpenSSL has for a reason, if one was given.
    pub(super) reason: Option<String>,
}

impl Index {
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().map(str::to_owned).collect())
    }

    pub(super) fn text(&self) -> String {
        let lines = self.0.iter().map(|line| format!("{line}\n"));
        lines.collect()
    }

    /// Adds a certificate. Times are in seconds since 1970.
    pub(super) fn add(
        &mut self,
        serial: &[u8],
        not_after: u64,
        subject: &str,
    ) -> Result<(), CaError> {
        let (expires, serial) = (stamp(not_after)?, digits(serial)?);
        let line = format!("V\t{expires}\t\t{serial}\tunknown\t{subject}");
        self.0.push(line);
        Ok(())
    }

    /// Whether a serial number has a line, and the state that it has there: `V`, `R` or `E`.
    pub(super) fn state(&self, serial: &[u8]) -> Result<Option<char>, CaError> {
        let serial = digits(serial)?;
        let line = self.0.iter().find(|line| has_serial(line, &serial));
        Ok(line.and_then(|line| line.chars().next()))
    }

    /// Revokes a certificate, which gets a line if it has none.
    pub(super) fn revoke(
        &mut self,
        serial: &[u8],
        not_after: u64,
        subject: &str,
        now: u64,
    ) -> Result<(), CaError> {
        if self.state(serial)?.is_none() {
            self.add(serial, not_after, subject)?;
        }
        let (now, serial) = (stamp(now)?, digits(serial)?);
        for line in self.0.iter_mut().filter(|line| has_serial(line, &serial)) {
            let mut fields: Vec<&str> = line.split('\t').collect();
            if let [state, _, revoked, ..] = fields.as_mut_slice() {
                (*state, *revoked) = ("R", &now);
            }
            *line = fields.join("\t");
        }
        Ok(())
    }

    /// All that no longer count.
    ///
    /// # Errors
    /// A line says so that cannot be read: it must not be lost from the list.
    pub(super) fn revoked(&self) -> Result<Vec<Revoked>, CaError> {
        let lines = self.0.iter().filter(|line| line.starts_with("R\t"));
        lines
            .map(|line| revoked(line).ok_or(CaError::Index))
            .collect()
    }
}

fn has_serial(line: &str, serial: &str) -> bool {
    line.split('\t').nth(3) == Some(serial)
}

fn revoked(line: &str) -> Option<Revoked> {
    let mut fields = line.split('\t').skip(2);
    let (when, serial) = (fields.next()?, fields.next()?);
    let (when, reason) = match when.split_once(',') {
        Some((when, reason)) => (when, Some(reason.to_owned())),
        None => (when, None),
    };
    Some(Revoked {
        serial: BigNum::from_hex_str(serial).ok()?.to_vec(),
        at: read_stamp(when)?,
        reason,
    })
}

/// `YYMMDDHHMMSSZ`, and four digits for the year from 2050 on.
fn stamp(seconds: u64) -> Result<String, CaError> {
    let time = DateTime::from_unix_duration(Duration::from_secs(seconds));
    let time = time.map_err(|_| CaError::Crypto)?;
    let year = match time.year() {
        year @ ..2050 => format!("{:02}", year % 100),
        year => format!("{year:04}"),
    };
    let (month, day, hour) = (time.month(), time.day(), time.hour());
    let (minutes, seconds) = (time.minutes(), time.seconds());
    Ok(format!(
        "{year}{month:02}{day:02}{hour:02}{minutes:02}{seconds:02}Z"
    ))
}

fn read_stamp(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('Z')?;
    let (year, rest) = digits.split_at_checked(digits.len().checked_sub(10)?)?;
    let number = |at: usize| -> Option<u8> { rest.get(at..at + 2)?.parse().ok() };
    let year: u16 = match year.len() {
        2 => {
            let year: u16 = year.parse().ok()?;
            if year < 50 { 2000 + year } else { 1900 + year }
        }
        4 => year.parse().ok()?,
        _ => return None,
    };
    let (month, day, hour) = (number(0)?, number(2)?, number(4)?);
    let time = DateTime::new(year, month, day, hour, number(6)?, number(8)?).ok()?;
    Some(time.unix_duration().as_secs())
}

/// A serial number as OpenSSL writes it: an even count of hexadecimal digits.
fn digits(serial: &[u8]) -> Result<String, CaError> {
    let number = BigNum::from_slice(serial)?;
    let digits = number.to_hex_str()?.to_uppercase();
    Ok(if digits.len() % 2 == 1 {
        format!("0{digits}")
    } else {
        digits
    })
}

/// The serial number that `serial.txt` says is next, big-endian, and what the file says then. The
/// first is drawn at random, as `openssl ca -create_serial` does; numbers that have a line are
/// passed over.
pub(super) fn next_serial(file: Option<&str>, index: &Index) -> Result<(Vec<u8>, String), CaError> {
    let mut serial = match file {
        Some(text) => BigNum::from_hex_str(text.trim()).map_err(|_| CaError::Serial)?,
        None => {
            let mut random = [0; 16];
            boring::rand::rand_bytes(&mut random)?;
            // Neither negative nor shorter than the others.
            random[0] = random[0] & 0x7f | 0x40;
            BigNum::from_slice(&random)?
        }
    };
    if serial.is_negative() || serial.num_bytes() > 19 {
        return Err(CaError::Serial);
    }
    while serial.num_bits() == 0 || index.state(&serial.to_vec())?.is_some() {
        serial.add_word(1)?;
    }
    let mut next = serial.to_owned()?;
    next.add_word(1)?;
    Ok((serial.to_vec(), format!("{}\n", digits(&next.to_vec())?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_OPENSSL: &str = "V\t271128140000Z\t\t01\tunknown\t/CN=a.example\n\
        R\t271128140000Z\t261128140102Z,keyCompromise\t02\tunknown\t/CN=b.example\n\
        E\t201128140000Z\t\t03\tunknown\t/CN=c.example\n";

    #[test]
    fn what_openssl_wrote_stays_as_it_is() {
        let index = Index::parse(OF_OPENSSL);
        assert_eq!(index.text(), OF_OPENSSL);
        let revoked = Revoked {
            serial: vec![2],
            at: 1_795_874_462,
            reason: Some("keyCompromise".to_owned()),
        };
        assert_eq!(index.revoked().unwrap(), [revoked]);
        let states = [[1], [2], [3], [4]].map(|serial| index.state(&serial).unwrap());
        assert_eq!(states, [Some('V'), Some('R'), Some('E'), None]);
    }

    #[test]
    fn certificates_are_added_and_revoked() {
        let mut index = Index::default();
        index.add(&[0x0a, 0xbc], 1_795_874_462, "/CN=a").unwrap();
        assert_eq!(index.text(), "V\t261128140102Z\t\t0ABC\tunknown\t/CN=a\n");
        index.revoke(&[0x0a, 0xbc], 0, "", 1_795_874_400).unwrap();
        let line = "R\t261128140102Z\t261128140000Z\t0ABC\tunknown\t/CN=a\n";
        assert_eq!(index.text(), line);
        // One that was never heard of, and that lives beyond 2049.
        index
            .revoke(&[7], 2_600_000_000, "/CN=b", 1_795_874_400)
            .unwrap();
        let other = "R\t20520522141320Z\t261128140000Z\t07\tunknown\t/CN=b\n";
        assert_eq!(index.text(), format!("{line}{other}"));
        assert_eq!(index.revoked().unwrap().len(), 2);
    }

    #[test]
    fn a_revocation_that_cannot_be_read_is_not_forgotten() {
        for line in [
            "R\t1\t2\t3",
            "R\t271128140000Z\t\t02\tunknown\t/CN=b",
            "R\t",
        ] {
            assert!(
                matches!(Index::parse(line).revoked(), Err(CaError::Index)),
                "{line}"
            );
        }
    }

    #[test]
    fn serial_numbers_go_on_from_the_file_or_begin_anywhere() {
        let index = Index::parse(OF_OPENSSL);
        let next = |file| next_serial(Some(file), &index);
        assert_eq!(next("04\n").unwrap(), (vec![4], "05\n".to_owned()));
        assert_eq!(next("01\n").unwrap(), (vec![4], "05\n".to_owned()));
        assert_eq!(next("FF\n").unwrap(), (vec![255], "0100\n".to_owned()));
        assert!(next("").is_err());
        assert!(next("-5").is_err());
        let (one, file) = next_serial(None, &index).unwrap();
        let (other, _) = next_serial(None, &index).unwrap();
        assert_eq!((one.len(), file.len()), (16, 33));
        assert_ne!(one, other);
    }
}
