//! Page tokens: the last key of the page before, wrapped so that nobody builds one by hand.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_core::effect::StoreError;
use holdfast_core::id::{ActorKey, Name};

use crate::key;

/// The token of the page that begins after `last`.
pub(crate) fn token(last: &ActorKey) -> Name {
    URL_SAFE_NO_PAD.encode(key::actor(last)).into()
}

/// The key after which the page of `token` begins, in a list of all actors or of one atespace's.
///
/// # Errors
/// [`StoreError::Refused`] if it is no token of such a list.
pub(crate) fn start(token: &Name, atespace: Option<&Name>) -> Result<ActorKey, StoreError> {
    let last = URL_SAFE_NO_PAD
        .decode(token.as_str())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| key::parse_actor(&text))
        .ok_or_else(|| refused("it was not given out by this list; begin again without one"))?;
    match atespace {
        Some(name) if *name != last.atespace => Err(refused(&format!(
            "it belongs to atespace {}, not to {name}",
            last.atespace
        ))),
        _ => Ok(last),
    }
}

fn refused(why: &str) -> StoreError {
    StoreError::Refused(format!("invalid page token: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_key_and_only_in_its_own_list() {
        let last = ActorKey::new("team-a", "id1");
        let token = token(&last);
        assert_eq!(start(&token, None), Ok(last.clone()));
        assert_eq!(start(&token, Some(&"team-a".into())), Ok(last));
        let Err(StoreError::Refused(text)) = start(&token, Some(&"team-b".into())) else {
            panic!()
        };
        assert_eq!(
            text,
            "invalid page token: it belongs to atespace team-a, not to team-b"
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "!", "YQ", "YWN0b3I6YQ", "eyJzaGFyZF9oYXNoIjoiIn0="] {
            assert!(
                matches!(start(&bad.into(), None), Err(StoreError::Refused(_))),
                "{bad}"
            );
        }
    }
}
