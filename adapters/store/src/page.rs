//! Page tokens: where the page before ended, wrapped so that nobody builds one by hand.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_core::effect::StoreError;
use holdfast_core::id::{ActorKey, Incarnation, Name, Version};

use crate::key;

/// The token of the page that begins after `last`.
pub(crate) fn token(last: &ActorKey) -> Name {
    wrap(&key::actor(last))
}

/// The token of the page that begins where a walk through a hash is to go on. Only the run of the server that has
/// given the cursor out can go on from it: another one has another order.
pub(crate) fn token_of_walk(run: &str, cursor: u64) -> Name {
    wrap(&format!("walk:{cursor}:{run}"))
}

/// The token of the page of notes that begins after the one of this name.
pub(crate) fn token_of_grave(last: &str) -> Name {
    wrap(&format!("grave:{last}"))
}

/// The key after which the page of `token` begins, in a list of all actors or of one atespace's.
///
/// # Errors
/// [`StoreError::Refused`] if it is no token of such a list.
pub(crate) fn start(token: &Name, atespace: Option<&Name>) -> Result<ActorKey, StoreError> {
    let last = unwrap(token, key::parse_actor)?;
    match atespace {
        Some(name) if *name != last.atespace => Err(refused(&format!(
            "it belongs to atespace {}, not to {name}",
            last.atespace
        ))),
        _ => Ok(last),
    }
}

/// Where the walk of `token` is to go on, and on which run of the server.
///
/// # Errors
/// [`StoreError::Refused`] if it is no token of such a list.
pub(crate) fn start_of_walk(token: &Name) -> Result<(u64, String), StoreError> {
    unwrap(token, |text| {
        let (cursor, run) = text.strip_prefix("walk:")?.split_once(':')?;
        Some((cursor.parse().ok()?, run.to_owned()))
    })
}

/// The note after which the page of `token` begins.
///
/// # Errors
/// [`StoreError::Refused`] if it is no token of such a list.
pub(crate) fn start_of_graves(token: &Name) -> Result<(ActorKey, Incarnation, Version), StoreError> {
    unwrap(token, |text| key::parse_grave(text.strip_prefix("grave:")?))
}

fn wrap(text: &str) -> Name {
    URL_SAFE_NO_PAD.encode(text).into()
}

fn unwrap<T>(token: &Name, read: impl FnOnce(&str) -> Option<T>) -> Result<T, StoreError> {
    let bytes = URL_SAFE_NO_PAD.decode(token.as_str()).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| read(&text))
        .ok_or_else(|| refused("it was not given out by this list; begin again without one"))
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
    fn lists_of_notes_have_tokens_of_their_own() {
        let walk = token_of_walk("run", u64::MAX);
        assert_eq!(start_of_walk(&walk), Ok((u64::MAX, "run".to_owned())));
        let last = (ActorKey::new("a", "b"), Incarnation(1), Version(2));
        assert_eq!(start_of_graves(&token_of_grave("a:b:1:2")), Ok(last));
        assert!(start_of_graves(&walk).is_err());
        assert!(start_of_walk(&token(&ActorKey::new("a", "b"))).is_err());
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "!", "YQ", "YWN0b3I6YQ", "eyJzaGFyZF9oYXNoIjoiIn0="] {
            let bad = Name::from(bad);
            for refused in [
                start(&bad, None).map(drop),
                start_of_walk(&bad).map(drop),
                start_of_graves(&bad).map(drop),
            ] {
                assert!(matches!(refused, Err(StoreError::Refused(_))), "{bad}");
            }
        }
    }
}
