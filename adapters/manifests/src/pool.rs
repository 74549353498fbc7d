//! WorkerPool (compat.md section 5.2).

use holdfast_core::catalog::Pool;
use holdfast_core::id::Name;

use crate::PoolSpec;
use crate::cursor::{Cursor, Fields};
use crate::object::Metadata;
use crate::rules;
use crate::template::{DEFAULT_SANDBOX_CLASS, SANDBOX_CLASSES};

const MAX_TOLERATIONS: usize = 16;

pub(crate) fn read(object: &Fields<'_>, metadata: Metadata) -> Option<(Pool, PoolSpec)> {
    object.ignore(&["status"]);
    let spec = object.required("spec", Cursor::fields)?;
    let replicas = spec.required("replicas", |replicas| {
        replicas.whole_number(0..=i64::from(i32::MAX))
    });
    // Pods of these pools are someone else's; their image is only checked.
    let image = spec.required("ateomImage", |image| image.text(rules::not_empty));
    let pod_template = spec.optional("template", (), pod_template);
    let sandbox_class = spec.optional("sandboxClass", DEFAULT_SANDBOX_CLASS, |class| {
        class.word(&SANDBOX_CLASSES)
    });
    let config = spec.optional("sandboxConfigName", "", |name| name.text(rules::anything));
    spec.finish();
    let (_, ()) = (image?, pod_template?);
    let Metadata {
        namespace,
        name,
        labels,
    } = metadata;
    let size = PoolSpec {
        namespace: namespace.clone(),
        name: name.clone(),
        replicas: u32::try_from(replicas?).ok()?,
    };
    let config = config?;
    let pool = Pool {
        namespace,
        name,
        labels,
        sandbox_class: sandbox_class?.into(),
        sandbox_config: (!config.is_empty()).then(|| Name::from(config)),
    };
    Some((pool, size))
}

/// What Kubernetes needs to place the pods; it has no meaning here.
fn pod_template(at: Cursor<'_>) -> Option<()> {
    let fields = at.fields()?;
    let tolerations = fields.list("tolerations", MAX_TOLERATIONS, |_| Some(()));
    fields.ignore(&["nodeAffinity", "nodeSelector", "priorityClassName", "resources"]);
    fields.finish();
    tolerations.map(drop)
}
