//! The start program, which becomes `bin/NAME` of every release; `build.rs` builds it.

/// A static ELF program for the target that dram itself is built for.
#[allow(dead_code, reason = "written into releases by the step that makes the tree")]
pub(crate) const START_PROGRAM: &[u8] = include_bytes!(env!("START_PROGRAM"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_program_is_an_elf_file_of_at_most_300_kb() {
        assert_eq!(START_PROGRAM[..4], *b"\x7fELF");
        assert!(START_PROGRAM.len() <= 300_000, "{} bytes", START_PROGRAM.len());
    }
}
