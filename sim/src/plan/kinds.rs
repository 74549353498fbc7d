//! Kinds of faults by their names, and which of them strike in a plan.

use super::{Fault, Kind, Plan};
use std::collections::BTreeSet;

impl Kind {
    /// What it is called in plans and on a command line: `disk-full`.
    pub fn name(self) -> String {
        let mut name = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }

    /// The one of that name, which may also be written as in the code: `DiskFull`.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name || format!("{kind:?}") == name)
    }
}

impl Plan {
    /// The kinds of faults that strike in it. A node that is cut off for so long that its session may end is
    /// partitioned.
    pub fn kinds(&self) -> BTreeSet<Kind> {
        let settings = &self.settings;
        // The last report that was answered may be as old as the pause between two.
        let session = settings
            .node_session_ttl_us
            .saturating_sub(settings.heartbeat_every_us);
        let kind = |fault: &Fault| match fault {
            Fault::NodeCutOff { for_us, .. } if *for_us >= session => Kind::NodePartitioned,
            fault => fault.kind(),
        };
        self.faults.iter().map(|strike| kind(&strike.fault)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Recipe;

    #[test]
    fn a_kind_is_found_by_its_name_and_called_as_its_fault_is_in_a_plan() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(&kind.name()), Some(kind));
            assert_eq!(Kind::named(&format!("{kind:?}")), Some(kind));
            let recipe = Recipe {
                faults: vec![kind],
                ..Recipe::small(1)
            };
            let plan = recipe.plan();
            assert_eq!(plan.kinds(), [kind].into(), "{kind:?}");
            let in_plan = match kind {
                Kind::NodePartitioned => Kind::NodeCutOff,
                kind => kind,
            };
            let field = format!("\"{}\": {{", in_plan.name());
            assert!(plan.to_json().contains(&field), "{field}");
        }
        assert_eq!(Kind::named("disk"), None);
    }
}
