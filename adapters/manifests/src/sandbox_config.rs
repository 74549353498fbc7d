//! SandboxConfig (compat.md section 5.3).

use holdfast_core::catalog::{AssetFile, Assets, ConfigRole, SandboxConfig};
use holdfast_core::id::Name;

use crate::cursor::{Cursor, Fields};
use crate::object::Metadata;
use crate::rules;
use crate::template::{DEFAULT_SANDBOX_CLASS, SANDBOX_CLASSES};

pub(crate) fn read(object: &Fields<'_>, metadata: Metadata) -> Option<SandboxConfig> {
    let spec = object.required("spec", Cursor::fields)?;
    let sandbox_class = spec.optional("sandboxClass", DEFAULT_SANDBOX_CLASS, |class| {
        class.word(&SANDBOX_CLASSES)
    });
    let is_default = spec.optional("default", false, Cursor::boolean);
    let assets = spec.optional("assets", Assets::new(), |at| assets(at, sandbox_class?));
    spec.finish();
    Some(SandboxConfig {
        name: metadata.name,
        sandbox_class: sandbox_class?.into(),
        role: if is_default? {
            ConfigRole::Default
        } else {
            ConfigRole::Named
        },
        assets: assets?,
    })
}

/// The files that a sandbox of a class cannot run without.
fn required_assets(class: &str) -> &'static [&'static str] {
    match class {
        DEFAULT_SANDBOX_CLASS => &["runsc"],
        _ => &[
            "cloud-hypervisor",
            "virtiofsd",
            "kata-kernel",
            "kata-image",
            "kata-config",
        ],
    }
}

fn assets(at: Cursor<'_>, class: &str) -> Option<Assets> {
    let by_architecture = at.entries(|architecture, at| {
        let files = at
            .clone()
            .entries(|name, at| Some((Name::from(name), asset(at)?)));
        let files = files?.into_iter().collect::<std::collections::BTreeMap<_, _>>();
        let missing: Vec<&str> = required_assets(class)
            .iter()
            .copied()
            .filter(|name| !files.contains_key(&Name::from(*name)))
            .collect();
        if !missing.is_empty() {
            at.refuse(format!(
                "sandboxClass {class} also needs {} here",
                missing.join(", ")
            ));
            return None;
        }
        Some((Name::from(architecture), files))
    })?;
    Some(by_architecture.into_iter().collect())
}

fn asset(at: Cursor<'_>) -> Option<AssetFile> {
    let fields = at.fields()?;
    let url = fields.required("url", |url| url.text(rules::asset_url));
    let sha256 = fields.required("sha256", |digest| digest.text(rules::sha256));
    fields.finish();
    Some(AssetFile {
        url: url?.into(),
        sha256: sha256?.into(),
    })
}
