//! What is executed for each kind of code: the interpreter, the stock runtime client where there
//! is one, and our own small pieces beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::spawn::{self, Program};
use super::unpack;
use crate::Digest;
use crate::execute::cache::Cache;
use crate::execute::{Code, Config, InvokeError, Target, bad_code};
use crate::manifest::CodeKind;

/// Our module for Python functions, put beside their code.
const PYTHON_MODULE: &str = include_str!("edgescale.py");
/// Starts the stock client for Python.
const PYTHON_START: &str = include_str!("start.py");
/// Asks WSGI applications.
const PYTHON_WSGI: &str = include_str!("wsgi.py");
/// Our module for JavaScript functions.
const JS_MODULE: &str = include_str!("edgescale.mjs");
const JS_PACKAGE: &str =
    "{\"name\": \"edgescale\", \"type\": \"module\", \"main\": \"index.js\"}\n";
/// Speaks the Runtime API for JavaScript functions that bring no client of their own.
const JS_START: &str = include_str!("start.mjs");
/// Lets JavaScript functions ask other hosts.
const JS_OUTSIDE: &str = include_str!("outside.mjs");
/// The stock client for JavaScript, in an archive that brings it: its version 4, and those before.
const JS_STOCK: [&str; 2] =
    ["node_modules/aws-lambda-ric/index.mjs", "node_modules/aws-lambda-ric/bin/index.mjs"];
/// Main class of the stock client for Java.
const JAVA_STOCK: &str = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda";

/// Interpreters, clients and our own pieces, where they lie on this machine.
pub(super) struct Programs {
    cache: Arc<Cache>,
    python: PathBuf,
    python_packages: PathBuf,
    node: PathBuf,
    java: PathBuf,
    java_libraries: PathBuf,
    /// Holds the Python modules and both starters.
    own: PathBuf,
    /// Holds the JavaScript module; an ancestor's neighbour of all code, where Node.js looks.
    js_module: PathBuf,
}

impl Programs {
    pub(super) fn new(config: &Config, cache: Arc<Cache>) -> std::io::Result<Self> {
        let python = [PYTHON_MODULE, PYTHON_START, PYTHON_WSGI].concat();
        let all = [python.as_str(), JS_MODULE, JS_START, JS_OUTSIDE].concat();
        let digest = Digest::of(all.as_bytes());
        cache.unpack(&digest, "edgescale.py", PYTHON_MODULE.as_bytes())?;
        cache.unpack(&digest, "start.py", PYTHON_START.as_bytes())?;
        cache.unpack(&digest, "wsgi.py", PYTHON_WSGI.as_bytes())?;
        cache.unpack(&digest, "outside.mjs", JS_OUTSIDE.as_bytes())?;
        let own = cache.unpack(&digest, "start.mjs", JS_START.as_bytes())?;
        let js_module = cache.beside_code("node_modules/edgescale")?;
        std::fs::write(js_module.join("package.json"), JS_PACKAGE)?;
        std::fs::write(js_module.join("index.js"), JS_MODULE)?;
        Ok(Self {
            cache,
            python: real(&config.python),
            python_packages: absolute(&config.python_packages),
            node: real(&config.node),
            java: real(&config.java),
            java_libraries: absolute(&config.java_libraries),
            own,
            js_module,
        })
    }

    /// What to execute for a handler.
    pub(super) fn of(&self, target: &Target) -> Result<Program, InvokeError> {
        let digest = &target.digest;
        let source =
            self.cache.source(digest).ok_or_else(|| InvokeError::NotInstalled(digest.clone()))?;
        let node = |error| InvokeError::Node(format!("code {digest}: {error}"));
        let entry = target.entry.as_deref().unwrap_or_default();
        let one_file = |name: &str| self.cache.unpack(digest, name, &source).map_err(node);
        let program = match target.kind {
            CodeKind::Python => {
                let name = python_file_name(&source, entry);
                self.python(&one_file(&name)?, &name, target)?
            }
            CodeKind::Js => {
                let folder = match is_zip(&source) {
                    true => unpack::once(&self.cache, digest, &source).map_err(node)?,
                    false => one_file(&format!("{}.js", module_of(entry)))?,
                };
                self.js(&folder, target)
            }
            CodeKind::Java => {
                let name = if is_zip(&source) { "code.jar" } else { "Main.java" };
                self.java(&one_file(name)?, name, target)?
            }
            _ => {
                let folder = one_file("bootstrap")?;
                let file = folder.join("bootstrap");
                spawn::make_executable(&file).map_err(node)?;
                Program::new(file, entry.split_whitespace().map(str::to_owned).collect(), folder)
            }
        };
        Ok(program)
    }

    fn python(&self, folder: &Path, file: &str, target: &Target) -> Result<Program, InvokeError> {
        if !self.python_packages.join("awslambdaric").is_dir() {
            return Err(no_client("Python", &self.python_packages));
        }
        let code = if file.ends_with(".zip") { folder.join(file) } else { folder.to_owned() };
        let search = [&code, &self.own, &self.python_packages]
            .map(|path| path.display().to_string())
            .join(":");
        let start = self.own.join("start.py").display().to_string();
        let arguments = vec![start, target.entry.clone().unwrap_or_default()];
        let fresh = if target.limits.reuse == Some(1) { "1" } else { "" };
        let program = Program::new(self.python.clone(), arguments, folder.to_owned())
            .sees_home_of(&self.python)
            .sees(&self.own)
            .sees(&self.python_packages)
            .with("PYTHONPATH", search)
            .with("PYTHONDONTWRITEBYTECODE", "1")
            .with("PYTHONUNBUFFERED", "1")
            .with("EDGESCALE_FRESH", fresh)
            .with("LAMBDA_TASK_ROOT", folder.display().to_string());
        Ok(program)
    }

    fn js(&self, folder: &Path, target: &Target) -> Program {
        let memory_mb = target.limits.memory_mb;
        let stock = JS_STOCK.map(|file| folder.join(file)).into_iter().find(|file| file.is_file());
        let entry = target.entry.clone().unwrap_or_default();
        let mut arguments = vec![format!("--max-old-space-size={memory_mb}")];
        if stock.is_some() {
            // Our own start does it by itself.
            arguments.push(format!("--import={}", self.own.join("outside.mjs").display()));
        }
        let start = stock.unwrap_or_else(|| self.own.join("start.mjs"));
        arguments.extend([start.display().to_string(), entry]);
        Program::new(self.node.clone(), arguments, folder.to_owned())
            .sees_home_of(&self.node)
            .sees(&self.own)
            .sees(&self.js_module)
            .with("LAMBDA_TASK_ROOT", folder.display().to_string())
            .with_runtime_memory_mb(192)
    }

    fn java(&self, folder: &Path, file: &str, target: &Target) -> Result<Program, InvokeError> {
        let memory_mb = target.limits.memory_mb;
        let code = folder.join(file).display().to_string();
        // Few threads and a small compiler start soonest.
        let mut arguments: Vec<String> = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
            .into_iter()
            .chain(["-Xshare:auto", "-XX:-UsePerfData", "-Djava.io.tmpdir=/tmp"])
            .map(str::to_owned)
            .collect();
        arguments.push(format!("-Xmx{memory_mb}m"));
        match (file, target.entry.as_deref()) {
            ("code.jar", Some(entry)) => {
                let libraries = self.java_libraries.join("*").display().to_string();
                if !self.java_libraries.is_dir() {
                    return Err(no_client("Java", &self.java_libraries));
                }
                arguments.extend(["-cp".into(), format!("{code}:{libraries}")]);
                arguments.extend([JAVA_STOCK.to_owned(), entry.to_owned()]);
            }
            ("code.jar", None) => arguments.extend(["-jar".to_owned(), code]),
            _ => arguments.push(code),
        }
        Ok(Program::new(self.java.clone(), arguments, folder.to_owned())
            .sees_home_of(&self.java)
            .sees(&self.java_libraries)
            .with("LAMBDA_TASK_ROOT", folder.display().to_string())
            .with_runtime_memory_mb(512))
    }
}

fn no_client(language: &str, folder: &Path) -> InvokeError {
    let folder = folder.display();
    InvokeError::Node(format!("no {language} runtime client in {folder}; run ./tools.sh"))
}

/// Whether the bytes can be code of their kind at all.
pub(super) fn check_form(code: &Code) -> Result<(), InvokeError> {
    let bytes = &code.bytes;
    let is_text = || std::str::from_utf8(bytes).is_ok();
    let problem = match code.kind {
        CodeKind::Python if is_zip(bytes) || is_text() => return Ok(()),
        CodeKind::Js if is_zip(bytes) => {
            return unpack::check(bytes).map_err(|problem| bad_code(&code.digest, problem));
        }
        CodeKind::Js if is_text() => return Ok(()),
        CodeKind::Java if is_zip(bytes) || is_text() => return Ok(()),
        CodeKind::Command if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"#!") => {
            return Ok(());
        }
        CodeKind::Python => "python code is neither a zip archive nor UTF-8 text",
        CodeKind::Js => "js code is neither a zip archive nor UTF-8 text",
        CodeKind::Java => "java code is neither a jar nor UTF-8 text",
        _ => "a command is an ELF executable or starts with #!",
    };
    Err(bad_code(&code.digest, problem))
}

pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// A zip archive is imported from as it is; a single file is named after the entry's module.
fn python_file_name(source: &[u8], entry: &str) -> String {
    match is_zip(source) {
        true => "code.zip".into(),
        false => format!("{}.py", module_of(entry)),
    }
}

fn module_of(entry: &str) -> &str {
    entry.split(['.', ':']).next().unwrap_or_default()
}

/// Past links and version managers' shims: the folder beside it holds its libraries.
fn real(program: &Path) -> PathBuf {
    let found = match program.components().count() {
        1 => on_path(program),
        _ => None,
    };
    let program = found.as_deref().unwrap_or(program);
    program.canonicalize().unwrap_or_else(|_| program.to_owned())
}

fn on_path(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
