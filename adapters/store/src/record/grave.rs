//! The note that a deleted actor leaves.

use holdfast_core::effect::Grave;
use holdfast_core::id::{ActorKey, Incarnation, Version};
use serde::{Deserialize, Serialize};

use super::actor::{SnapshotJson, into_snapshots};
use super::scalar::{Count, Int, Text};
use super::{RecordFault, VERSION, Versioned};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GraveJson {
    version: Count<Version>,
    atespace: Text,
    actor_id: Text,
    incarnation: Int,
    actor_template_namespace: Text,
    actor_template_name: Text,
    snapshots: Vec<SnapshotJson>,
    holdfast: Extra,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extra {
    v: u64,
}

impl Versioned for GraveJson {
    fn format(&self) -> Option<u64> {
        Some(self.holdfast.v)
    }
}

impl From<&Grave> for GraveJson {
    fn from(grave: &Grave) -> GraveJson {
        GraveJson {
            version: Count(grave.version),
            atespace: (&grave.actor.atespace).into(),
            actor_id: (&grave.actor.name).into(),
            incarnation: Int(grave.incarnation.0),
            actor_template_namespace: (&grave.template.0).into(),
            actor_template_name: (&grave.template.1).into(),
            snapshots: grave.snapshots.iter().map(SnapshotJson::from).collect(),
            holdfast: Extra { v: VERSION },
        }
    }
}

impl GraveJson {
    pub(super) fn into_grave(self) -> Result<Grave, RecordFault> {
        Ok(Grave {
            actor: ActorKey {
                atespace: self.atespace.0,
                name: self.actor_id.0,
            },
            incarnation: Incarnation(self.incarnation.0),
            version: self.version.0,
            template: (self.actor_template_namespace.0, self.actor_template_name.0),
            snapshots: into_snapshots(self.snapshots)?,
        })
    }
}
