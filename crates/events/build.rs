//! Turns `proto/` into Rust: the messages with prost, and an `Event` impl for each message that has a key, read from its descriptor's options.
//! No system `protoc` is needed: protox compiles the files.

#![expect(clippy::disallowed_methods, reason = "cargo tells a build script everything through its environment")]

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use prost::Message as _;
use prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};

fn main() -> Result<(), Box<dyn Error>> {
    let proto = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", proto.display());
    let files = event_files(&proto)?;

    let mut compiler = protox::Compiler::new([&proto])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;
    let pool = compiler.descriptor_pool();

    let events = Events::read(&pool)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut config = prost_build::Config::new();
    config.include_file("events.rs");
    // Debug of these is written below, with their sensitive fields redacted.
    config.skip_debug(events.all.iter().filter(|event| event.sensitive()).map(|event| format!(".{}", event.name)));
    config.compile_fds(prost_types_set(&pool)?)?;
    fs::write(out.join("impls.rs"), events.impls()?)?;
    Ok(())
}

fn event_files(proto: &PathBuf) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for service in fs::read_dir(proto)? {
        for version in fs::read_dir(service?.path()).into_iter().flatten() {
            let file = version?.path().join("events.proto");
            if file.is_file() {
                files.push(file);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The descriptors as prost-build takes them, which drops the options: they have been read by then.
fn prost_types_set(pool: &DescriptorPool) -> Result<prost_types::FileDescriptorSet, Box<dyn Error>> {
    Ok(prost_types::FileDescriptorSet::decode(pool.encode_to_vec().as_slice())?)
}

struct EventMessage {
    name: String,
    rust: String,
    key: String,
    audience: &'static str,
    fields: Vec<(String, bool)>,
}

impl EventMessage {
    fn sensitive(&self) -> bool {
        self.fields.iter().any(|(_, sensitive)| *sensitive)
    }
}

struct Events {
    all: Vec<EventMessage>,
}

impl Events {
    fn read(pool: &DescriptorPool) -> Result<Self, Box<dyn Error>> {
        let option = |name: &str| {
            pool.get_extension_by_name(&format!("postrider.options.v1.{name}")).ok_or(format!("no option {name}"))
        };
        let (key, sensitive, audience) = (option("key")?, option("sensitive")?, option("audience")?);
        let mut all = Vec::new();
        for message in pool.all_messages() {
            let file = message.parent_file();
            if !file.name().ends_with("/events.proto") || message.parent_message().is_some() {
                continue;
            }
            let keys: Vec<_> = message.fields().filter(|field| is_set(field, &key)).collect();
            let [key_field] = keys.as_slice() else {
                let found = keys.len();
                return Err(
                    format!("{}: an event has exactly one key field, this has {found}", message.full_name()).into()
                );
            };
            if key_field.kind() != Kind::String {
                return Err(format!("{}: the key must be a string", key_field.full_name()).into());
            }
            all.push(EventMessage {
                name: message.full_name().to_owned(),
                rust: format!("{}::{}", file.package_name().replace('.', "::"), message.name()),
                key: key_field.name().to_owned(),
                audience: audience_of(&message, &audience),
                fields: message.fields().map(|f| (f.name().to_owned(), is_set(&f, &sensitive))).collect(),
            });
        }
        Ok(Self { all })
    }

    fn impls(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        for event in &self.all {
            let EventMessage { name, rust, key, audience, .. } = event;
            let sensitive = event.sensitive();
            writeln!(
                out,
                "impl messaging::Event for {rust} {{
    const TYPE: &'static str = \"{name}\";
    const AUDIENCE: messaging::Audience = messaging::Audience::{audience};
    const SENSITIVE: bool = {sensitive};
    fn key(&self) -> &str {{ &self.{key} }}
}}"
            )?;
        }
        for event in self.all.iter().filter(|event| event.sensitive()) {
            let message = event.rust.rsplit("::").next().unwrap_or_default();
            writeln!(out, "impl std::fmt::Debug for {} {{", event.rust)?;
            writeln!(out, "    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{")?;
            write!(out, "        f.debug_struct(\"{message}\")")?;
            for (field, sensitive) in &event.fields {
                let value = if *sensitive { "&\"[redacted]\"".to_owned() } else { format!("&self.{field}") };
                write!(out, ".field(\"{field}\", {value})")?;
            }
            writeln!(out, ".finish()\n    }}\n}}")?;
        }
        Ok(out)
    }
}

fn is_set(field: &FieldDescriptor, option: &ExtensionDescriptor) -> bool {
    field.options().get_extension(option).as_bool() == Some(true)
}

fn audience_of(message: &MessageDescriptor, option: &ExtensionDescriptor) -> &'static str {
    match message.options().get_extension(option).as_ref() {
        Value::EnumNumber(2) => "Optional",
        _ => "Required",
    }
}
