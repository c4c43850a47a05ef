//! The program brings its own first instruction, and needs neither the compiler's start files nor a C library.

fn main() {
    for argument in ["-nostartfiles", "-nostdlib", "-Wl,--build-id=none", "-Wl,-z,norelro", "-Wl,--gc-sections"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
