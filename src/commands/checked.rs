//! Settings that were checked to the end: loaded, and what they name compiled.

use std::sync::Arc;

use crate::config::{Config, Fault, Faults, Layers, Loaded, Origins, load_checked, read_guarded};
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
        let mut schema = None;
        let loaded = load_checked(layers, |config, origins| match user_schema(config, origins) {
            Ok(compiled) => {
                schema = compiled;
                Vec::new()
            }
            Err(fault) => vec![fault],
        })?;
        Ok(Checked { loaded, schema })
    }
}

/// The schema of `intake.schema`, held to the same care as a settings file, since it decides as much.
fn user_schema(config: &Config, origins: &Origins) -> Result<Option<Arc<UserSchema>>, Fault> {
    let Some(named) = &config.intake.schema else { return Ok(None) };
    let path = &if named.is_dir() { named.join(SCHEMA_IN_TREE) } else { named.clone() };
    let wrong = |why: String| Fault::new(origins.of("intake.schema"), format!("intake.schema: {why}"));
    let text = read_guarded(path, "a JSON Schema").map_err(|fault| wrong(fault.to_string()))?;
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
