//! What a program needs of the system it runs on, read from its ELF file.
//!
//! Follows the System V ABI: `PT_INTERP` names the loader, `DT_NEEDED` the shared libraries.

use object::elf::{DynamicTag, FileHeader32, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::{Endianness, FileKind};

/// The loader and the libraries of one program or library.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// The loader's path; none for a library and for what is linked statically.
    pub interpreter: Option<String>,
    /// Names of shared libraries, in the order the loader looks for them.
    pub libraries: Vec<String>,
}

/// What the ELF file `bytes` needs; `None` when it is none, or too broken to say.
pub fn needs(bytes: &[u8]) -> Option<Needs> {
    match FileKind::parse(bytes).ok()? {
        FileKind::Elf64 => read::<FileHeader64<Endianness>>(bytes),
        FileKind::Elf32 => read::<FileHeader32<Endianness>>(bytes),
        _ => None,
    }
}

fn read<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Option<Needs> {
    let header = Elf::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, bytes).ok()?;
    let mut needs = Needs::default();
    if let Some(loader) = segments.iter().find(|segment| segment.p_type(endian) == PT_INTERP) {
        let path = loader.data(endian, bytes).ok()?.split(|&byte| byte == 0).next()?;
        needs.interpreter = Some(std::str::from_utf8(path).ok()?.to_owned());
    }
    // Sections would be easier to read, and stripping may remove them: the loader reads segments too.
    let Some(entries) = segments.iter().find_map(|segment| segment.dynamic(endian, bytes).ok().flatten()) else {
        return Some(needs);
    };
    let value = |tag: DynamicTag| {
        let entry = entries.iter().find(|entry| entry.tag(endian) == tag)?;
        Some(entry.d_val(endian).into())
    };
    let table: u64 = value(object::elf::DT_STRTAB)?;
    let table = segments.iter().find_map(|segment| {
        let at = table.checked_sub(segment.p_vaddr(endian).into())?;
        let data = segment.data(endian, bytes).ok()?;
        if segment.p_type(endian) == object::elf::PT_LOAD { data.get(usize::try_from(at).ok()?..) } else { None }
    })?;
    for entry in entries.iter().filter(|entry| entry.tag(endian) == object::elf::DT_NEEDED) {
        let at: u64 = entry.d_val(endian).into();
        let name = table.get(usize::try_from(at).ok()?..)?.split(|&byte| byte == 0).next()?;
        needs.libraries.push(std::str::from_utf8(name).ok()?.to_owned());
    }
    Some(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_needs_nothing() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0"] {
            assert_eq!(needs(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
