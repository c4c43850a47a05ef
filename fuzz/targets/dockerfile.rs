//! Any text is parsed, resolved and planned without a panic.
#![no_main]

use std::collections::BTreeMap;

use dram_dockerfile::{Settings, StageGraph, parse};
use dram_image::ImageConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let parsed = parse(text);
    let settings = Settings { os: "linux".into(), architecture: "amd64".into(), ..Settings::default() };
    let (graph, _) = StageGraph::new(&parsed.dockerfile, &settings);
    if let Some(graph) = graph {
        let config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
        let found: BTreeMap<_, _> = graph.needs().into_iter().map(|need| (need.name, config.clone())).collect();
        let _ = graph.plan(&found);
    }
});
