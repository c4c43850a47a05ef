//! The program has its own entry point, so it links neither the start files of the compiler nor a C library.

fn main() {
    for argument in ["-nostartfiles", "-nostdlib", "-Wl,--build-id=none", "-Wl,-z,norelro", "-Wl,--gc-sections"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
