//! Settings that were checked to the end: loaded, and what they name compiled.

use std::sync::Arc;

use crate::config::{Fault, Faults, Guarded, Layers, Loaded, read_guarded, survey};
use crate::intent::UserSchema;

/// Where the schema lies in a source tree that is named instead of it, as the original's users may.
const SCHEMA_IN_TREE: &str = "docs/contracts/intent.schema.json";

/// Settings that a daemon can go by.
pub struct Checked {
    /// The settings.
    pub loaded: Loaded,
    /// The user's own schema, compiled.
    pub schema: Option<Arc<UserSchema>>,
}

impl Checked {
    /// Loads the settings and compiles the schema that they name.
    ///
    /// # Errors
    ///
    /// Every fault of both.
    pub fn load(layers: &Layers) -> Result<Checked, Faults> {
        let (checked, faults) = Checked::survey(layers);
        if faults.is_empty() { Ok(checked) } else { Err(Faults(faults)) }
    }

    /// The same for whoever looks further in spite of faults.
    pub fn survey(layers: &Layers) -> (Checked, Vec<Fault>) {
        let (mut loaded, mut faults) = survey(layers);
        let schema = user_schema(&mut loaded, layers.daemon).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        (Checked { loaded, schema }, faults)
    }
}

/// The schema of `intake.schema`, held to the same care as a settings file, since it decides as much.
fn user_schema(loaded: &mut Loaded, daemon: Option<u32>) -> Result<Option<Arc<UserSchema>>, Fault> {
    let Some(named) = &loaded.config.intake.schema else { return Ok(None) };
    let path = &if named.is_dir() { named.join(SCHEMA_IN_TREE) } else { named.clone() };
    let wrong = |why: String| Fault::new(loaded.origins.of("intake.schema"), format!("intake.schema: {why}"));
    let Guarded { text, note } =
        read_guarded(path, "a JSON Schema", daemon).map_err(|fault| wrong(fault.to_string()))?;
    loaded.warnings.extend(note);
    let schema =
        UserSchema::compile(&text).map_err(|why| wrong(format!("{}: {why}; mend it", path.display())))?;
    Ok(Some(Arc::new(schema)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Given, Origin};

    #[test]
    fn a_schema_that_cannot_be_used_is_a_fault_beside_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schema.json");
        std::fs::write(&path, "{\"type\": 5}").unwrap();
        let given = |key: &str, value: &std::path::Path| Given {
            key: key.into(),
            value: value.into(),
            origin: Origin::Set,
        };
        let mut layers = Layers::new(Environment::new());
        layers.system = dir.path().join("none.toml");
        layers.given = vec![given("intake.schema", &path), given("watch.debounce", "soon".as_ref())];
        let faults = Checked::load(&layers).err().expect("two faults").to_string();
        assert_eq!(faults.lines().count(), 2, "{faults}");
        assert!(faults.contains("flag --set: watch.debounce: \"soon\" is not a duration"), "{faults}");
        assert!(faults.contains("flag --set: intake.schema: ") && faults.contains("schema.json"), "{faults}");
        std::fs::write(&path, "{}").unwrap();
        layers.given.pop();
        assert!(Checked::load(&layers).map_err(|faults| faults.to_string()).unwrap().schema.is_some());
    }
}
