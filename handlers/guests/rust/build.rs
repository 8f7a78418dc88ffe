//! Bindings in C, as wit-bindgen makes them: of the world in the folder that `GUESTS_C_WIT` names,
//! into the folder that `GUESTS_C_OUT` names. Here because the guests' own bindings are made of the
//! same crates, which are then built once.

use std::env;
use std::fs;
use std::path::Path;

use wit_bindgen_c::Opts;
use wit_bindgen_core::{Files, wit_parser::Resolve};

fn main() {
    println!("cargo::rerun-if-env-changed=GUESTS_C_WIT");
    println!("cargo::rerun-if-env-changed=GUESTS_C_OUT");
    let (Ok(wit), Ok(out)) = (env::var("GUESTS_C_WIT"), env::var("GUESTS_C_OUT")) else { return };
    println!("cargo::rerun-if-changed={wit}");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(&wit).expect("the world is right");
    let world = resolve.select_world(&[package], None).expect("there is one world");
    let mut files = Files::default();
    let mut bindings = Opts::default().build();
    bindings.generate(&mut resolve, world, &mut files).expect("C has all of it");
    for (name, bytes) in files.iter() {
        fs::write(Path::new(&out).join(name), bytes).expect("the folder is there");
    }
}
