//! The kpt package of an intent: scaffold, workload, ConfigMap, blueprints. Bytes by file name; knows no sink.
