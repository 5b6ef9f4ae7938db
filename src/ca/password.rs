//! Passwords from whoever sits before the terminal.

use std::io;

use zeroize::Zeroizing;

use super::CaError;
use super::request::Secret;

/// Somebody who can be asked for a password.
pub trait Prompt {
    /// Shows the words and reads one line, without showing it.
    fn ask(&mut self, words: &str) -> io::Result<Secret>;
}

/// The terminal, or standard input where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal;

impl Prompt for Terminal {
    fn ask(&mut self, words: &str) -> io::Result<Secret> {
        match rpassword::prompt_password(words) {
            Ok(line) => Ok(Secret::new(line)),
            Err(_) => {
                let mut line = Zeroizing::new(String::new());
                io::stdin().read_line(&mut line)?;
                let end = line.trim_end_matches(['\n', '\r']).len();
                Ok(Secret::new(line.get(..end).unwrap_or_default().to_owned()))
            }
        }
    }
}

/// The password that was given, or one that is asked for twice: first with `Words:`, then with
/// `Retype words:`.
pub(super) fn choose(
    given: Option<&Secret>,
    what: &str,
    prompt: &mut dyn Prompt,
) -> Result<Secret, CaError> {
    let password = match given {
        Some(given) => given.clone(),
        None => {
            let mut ask = |words: String| prompt.ask(&words).map_err(CaError::Terminal);
            let first = ask(format!("{what} passphrase:"))?;
            if first.reveal().is_empty() {
                return Err(CaError::NoPassword);
            }
            let (initial, rest) = what.split_at(usize::from(what.starts_with('E')));
            let again = ask(format!(
                "Retype {}{rest} passphrase:",
                initial.to_lowercase()
            ))?;
            if first != again {
                return Err(CaError::Mismatch);
            }
            first
        }
    };
    match password.reveal() {
        "" => Err(CaError::NoPassword),
        words if words.chars().any(char::is_control) => Err(CaError::OddPassword),
        _ => Ok(password),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Script(Vec<&'static str>, Vec<String>);

    impl Prompt for Script {
        fn ask(&mut self, words: &str) -> io::Result<Secret> {
            self.1.push(words.to_owned());
            Ok(Secret::new(self.0.remove(0).to_owned()))
        }
    }

    #[test]
    fn passwords_are_asked_for_twice() {
        let mut script = Script(vec!["a b", "a b", "x", "y", ""], Vec::new());
        let password = choose(None, "CA", &mut script).unwrap();
        assert_eq!(password.reveal(), "a b");
        let differ = choose(None, "Export", &mut script);
        assert!(matches!(differ, Err(CaError::Mismatch)));
        let empty = choose(None, "Export", &mut script);
        assert!(matches!(empty, Err(CaError::NoPassword)));
        let asked = [
            "CA passphrase:",
            "Retype CA passphrase:",
            "Export passphrase:",
            "Retype export passphrase:",
            "Export passphrase:",
        ];
        assert_eq!(script.1, asked);
    }

    #[test]
    fn a_password_has_one_line() {
        let given = Secret::new("a\nb".to_owned());
        let mut nobody = Script(Vec::new(), Vec::new());
        let odd = choose(Some(&given), "CA", &mut nobody);
        assert!(matches!(odd, Err(CaError::OddPassword)));
    }
}
