//! ELF files for tests: headers and a dynamic section that loaders read, without code.

/// An ELF file that a test makes.
#[derive(Debug, Clone)]
pub(super) struct CraftedElf {
    pub(super) machine: u16,
    /// `ET_EXEC` is 2, `ET_DYN` 3, `ET_REL` 1.
    pub(super) file_type: u16,
    pub(super) interpreter: Option<&'static str>,
    pub(super) needed: Vec<&'static str>,
    pub(super) soname: Option<&'static str>,
    pub(super) rpath: Option<&'static str>,
    pub(super) runpath: Option<&'static str>,
    /// The required symbol versions: the library and the version.
    pub(super) requires: Vec<(&'static str, &'static str)>,
    pub(super) defines: Vec<&'static str>,
    /// Bytes at the end of the file, such as the strings of a loader.
    pub(super) more: Vec<u8>,
}

impl Default for CraftedElf {
    fn default() -> CraftedElf {
        CraftedElf {
            machine: 62,
            file_type: 3,
            interpreter: None,
            needed: Vec::new(),
            soname: None,
            rpath: None,
            runpath: None,
            requires: Vec::new(),
            defines: Vec::new(),
            more: Vec::new(),
        }
    }
}

/// A string table that is being written.
struct StringTable(Vec<u8>);

impl StringTable {
    fn add(&mut self, text: &str) -> u64 {
        let at = self.0.len() as u64;
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        at
    }
}

impl CraftedElf {
    /// Returns the bytes of the file: 64 bits, little-endian.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut strings = StringTable(vec![0]);
        let mut dynamic: Vec<(u64, u64)> = self.needed.iter().map(|name| (1, strings.add(name))).collect();
        let tags = [(14, self.soname), (15, self.rpath), (29, self.runpath)];
        dynamic.extend(tags.into_iter().filter_map(|(tag, text)| Some((tag, strings.add(text?)))));
        let required: Vec<u8> = self
            .requires
            .iter()
            .enumerate()
            .flat_map(|(index, (library, version))| {
                let next = if index + 1 == self.requires.len() { 0_u32 } else { 32 };
                let (library, version) = (strings.add(library) as u32, strings.add(version) as u32);
                [words16(&[1, 1]), words32(&[library, 16, next, 0]), words16(&[0, 0]), words32(&[version, 0])].concat()
            })
            .collect();
        let defined: Vec<u8> = self
            .defines
            .iter()
            .enumerate()
            .flat_map(|(index, version)| {
                let next = if index + 1 == self.defines.len() { 0_u32 } else { 28 };
                [words16(&[1, 0, 1, 1]), words32(&[0, 20, next, strings.add(version) as u32, 0])].concat()
            })
            .collect();
        let interpreter: Vec<u8> = self.interpreter.map(|path| [path.as_bytes(), b"\0"].concat()).unwrap_or_default();
        let segments = 2 + u64::from(self.interpreter.is_some());
        let dynamic_at = 64 + segments * 56;
        let dynamic_size = (dynamic.len() as u64 + 5) * 16;
        let required_at = dynamic_at + dynamic_size;
        let defined_at = required_at + required.len() as u64;
        let interpreter_at = defined_at + defined.len() as u64;
        let strings_at = interpreter_at + interpreter.len() as u64;
        let size = strings_at + strings.0.len() as u64;
        dynamic.extend([(5, strings_at), (10, strings.0.len() as u64)]);
        dynamic.extend((!required.is_empty()).then_some((0x6fff_fffe, required_at)));
        dynamic.extend((!defined.is_empty()).then_some((0x6fff_fffc, defined_at)));
        dynamic.resize(dynamic_size as usize / 16, (0, 0));

        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend(words16(&[self.file_type, self.machine]));
        file.extend(words32(&[1]));
        file.extend(words64(&[0, 64, 0]));
        file.extend(words32(&[0]));
        file.extend(words16(&[64, 56, segments as u16, 64, 0, 0]));
        let mut segment = |kind: u32, at: u64, length: u64| {
            file.extend(words32(&[kind, 4]));
            file.extend(words64(&[at, at, at, length, length, 8]));
        };
        segment(1, 0, size);
        segment(2, dynamic_at, dynamic_size);
        if self.interpreter.is_some() {
            segment(3, interpreter_at, interpreter.len() as u64);
        }
        dynamic.iter().for_each(|(tag, value)| file.extend(words64(&[*tag, *value])));
        [file, required, defined, interpreter, strings.0, self.more.clone()].concat()
    }
}

fn words16(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words32(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words64(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
