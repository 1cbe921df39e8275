//! Configurations as text: what a reader of JSON, YAML or TOML may write. Only with the features of these names.

#[cfg(any(feature = "json", feature = "yaml", feature = "toml"))]
use serde::de::DeserializeOwned;

#[cfg(any(feature = "json", feature = "yaml", feature = "toml"))]
use crate::backend::ConfigError;

/// Reads a configuration from JSON.
///
/// # Errors
/// Where the text is at fault, and why.
#[cfg(feature = "json")]
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    serde_json::from_str(text).map_err(|error| failed("JSON", &error))
}

/// Reads a configuration from YAML.
///
/// # Errors
/// Where the text is at fault, and why.
#[cfg(feature = "yaml")]
pub fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| failed("YAML", &error))
}

/// Reads a configuration from TOML.
///
/// # Errors
/// Where the text is at fault, and why.
#[cfg(feature = "toml")]
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| failed("TOML", &error))
}

#[cfg(any(feature = "json", feature = "yaml", feature = "toml"))]
fn failed(format: &'static str, error: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Format {
        format,
        problem: error.to_string().trim_end().to_owned(),
    }
}

/// A duration as text, such as `10s`. A bare number is refused: nobody could tell its unit.
pub(crate) mod duration {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|error| de::Error::custom(format!("{text:?} is no duration such as \"10s\": {error}")))
    }
}

/// A store's name.
pub(crate) mod name {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::backend::BackendType;

    pub(crate) fn serialize<S: Serializer>(name: &BackendType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(name)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BackendType, D::Error> {
        Ok(BackendType::from(String::deserialize(deserializer)?.as_str()))
    }
}
