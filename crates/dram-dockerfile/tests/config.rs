//! The final config of a stage.

mod support;

use std::collections::BTreeMap;

use dram_image::{HistoryEntry, ImageConfig};
use support::{settings, target, valid_plan};

/// Returns the config after `text`, on a base image whose config has many fields set.
fn on_base(text: &str) -> ImageConfig {
    let mut plan =
        valid_plan(&format!("FROM base\n{text}"), &settings(), &BTreeMap::from([("base".to_owned(), base())]));
    plan.stages.swap_remove(plan.target).config
}

fn base() -> ImageConfig {
    let mut base = ImageConfig { os: "linux".into(), architecture: "arm64".into(), ..ImageConfig::default() };
    base.created = Some("2020-01-01T00:00:00Z".into());
    base.config.env = vec!["PATH=/bin".into(), "LANG=C".into()];
    base.config.cmd = Some(vec!["sh".into()]);
    base.config.entrypoint = Some(vec!["init".into()]);
    base.config.working_dir = "/srv".into();
    base.config.user = "base".into();
    base.history = vec![HistoryEntry { created_by: Some("base".into()), ..HistoryEntry::default() }];
    base
}

fn words(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn config_of_the_base_is_inherited() {
    let config = on_base("");
    assert_eq!(config, ImageConfig { created: None, ..base() });
    let config = on_base("ENV LANG=C.UTF-8 A=\"b c\"\nWORKDIR app\nUSER other\n");
    assert_eq!(config.config.env, ["PATH=/bin", "LANG=C.UTF-8", "A=b c"]);
    assert_eq!((config.config.working_dir.as_str(), config.config.user.as_str()), ("/srv/app", "other"));
}

#[test]
fn scratch_stage_has_the_default_path_and_the_target_platform() {
    let config = target("FROM scratch").config;
    assert_eq!((config.os.as_str(), config.architecture.as_str()), ("linux", "amd64"));
    assert_eq!(config.config.env, ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    assert!(config.history.is_empty() && config.rootfs.diff_ids.is_empty());
}

#[test]
fn stage_that_begins_without_an_image_has_the_root_as_working_directory() {
    for text in ["FROM scratch", "FROM scratch AS a\nFROM a", "FROM scratch\nWORKDIR .", "FROM scratch\nWORKDIR /"] {
        assert_eq!(target(text).config.config.working_dir, "/", "{text}");
    }
    assert_eq!(target("FROM scratch\nWORKDIR app").config.config.working_dir, "/app");
    assert_eq!(target("FROM base").config.config.working_dir, "", "the config of a base image is not changed");
    let mut settings = settings();
    settings.contexts.insert("files".to_owned());
    let plan = valid_plan("FROM files", &settings, &BTreeMap::new());
    assert_eq!(plan.stages[plan.target].config.config.working_dir, "/");
}

#[test]
fn entrypoint_and_cmd_override_those_of_the_base() {
    let table = [
        ("", words(&["init"]), words(&["sh"])),
        ("CMD [\"a\"]", words(&["init"]), words(&["a"])),
        ("ENTRYPOINT [\"e\"]", words(&["e"]), None),
        ("CMD [\"a\"]\nENTRYPOINT [\"e\"]", words(&["e"]), words(&["a"])),
        ("ENTRYPOINT [\"e\"]\nCMD [\"a\"]", words(&["e"]), words(&["a"])),
        ("ENTRYPOINT []", None, None),
        ("CMD []", words(&["init"]), None),
        ("CMD a $B", words(&["init"]), words(&["/bin/sh", "-c", "a $B"])),
        ("SHELL [\"bash\", \"-c\"]\nENTRYPOINT a b", words(&["bash", "-c", "a b"]), None),
    ];
    for (text, entrypoint, cmd) in table {
        let config = on_base(text);
        assert_eq!((config.config.entrypoint, config.config.cmd), (entrypoint, cmd), "{text}");
    }
}

#[test]
fn cmd_of_an_earlier_stage_is_inherited() {
    let config = target("FROM x AS s\nCMD [\"a\"]\nFROM s\nENTRYPOINT [\"e\"]\n").config.config;
    assert_eq!((config.entrypoint, config.cmd), (words(&["e"]), None));
    assert_eq!(target("FROM x AS s\nCMD [\"a\"]\nFROM s\n").config.config.cmd, words(&["a"]));
}

#[test]
fn remaining_instructions_set_their_config_fields() {
    let text = r#"FROM scratch
ENV P=90
EXPOSE 80 443/udp ${P}-92/tcp
VOLUME /a /b
VOLUME ["/c d"]
LABEL a=1 "b c"="d e" f=$P
LABEL g h i
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --retries=3 CMD curl -f localhost || exit 1
MAINTAINER A B <a@b>
"#;
    let config = target(text).config;
    let ports: Vec<&str> = config.config.exposed_ports.keys().map(String::as_str).collect();
    assert_eq!(ports, ["443/udp", "80/tcp", "90/tcp", "91/tcp", "92/tcp"]);
    let volumes: Vec<&str> = config.config.volumes.keys().map(String::as_str).collect();
    assert_eq!(volumes, ["/a", "/b", "/c d"]);
    let labels: Vec<String> = config.config.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["a=1", "b c=d e", "f=90", "g=h i"]);
    assert_eq!(config.config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(config.author.as_deref(), Some("A B <a@b>"));
    let check = config.config.healthcheck.unwrap();
    assert_eq!(check.test, ["CMD-SHELL", "curl -f localhost || exit 1"]);
    assert_eq!((check.interval, check.retries), (30_000_000_000, 3));
    let none = target("FROM scratch\nHEALTHCHECK NONE\n").config.config.healthcheck.unwrap();
    assert_eq!(none.test, ["NONE"]);
}

#[test]
fn history_entries_match_buildkit() {
    let text = r#"FROM scratch AS a
ARG V=1 W
ENV A=$V B="x y"
WORKDIR /app
WORKDIR /
COPY --chown=0:0 --chmod=644 a b /c/
ADD a.tar .
RUN make all
RUN ["a", "b c"]
USER u
EXPOSE 80
VOLUME /v
LABEL a=b
STOPSIGNAL 9
SHELL ["/bin/bash", "-c"]
CMD ["x", "y z"]
ENTRYPOINT e "f"
HEALTHCHECK --timeout=1m30s CMD ["c"]
"#;
    let plan = valid_plan(text, &settings(), &BTreeMap::new());
    let lines: Vec<String> = plan.stages[0]
        .config
        .history
        .iter()
        .map(|line| {
            assert_eq!((line.comment.as_deref(), &line.created), (Some("dram"), &None));
            let layer = if line.empty_layer { "-" } else { "+" };
            format!("{layer} {}", line.created_by.as_deref().unwrap())
        })
        .collect();
    assert_eq!(
        lines,
        [
            "- ARG V=1 W",
            "- ENV A=1 B=x y",
            "+ WORKDIR /app",
            "- WORKDIR /",
            "+ COPY --chown=0:0 --chmod=644 a b /c/ # buildkit",
            "+ ADD a.tar . # buildkit",
            "+ RUN |2 V=1 W= /bin/sh -c make all # buildkit",
            "+ RUN |2 V=1 W= a b c # buildkit",
            "- USER u",
            "- EXPOSE [80/tcp]",
            "- VOLUME [/v]",
            "- LABEL a=b",
            "- STOPSIGNAL 9",
            "- SHELL [/bin/bash -c]",
            "- CMD [\"x\" \"y z\"]",
            "- ENTRYPOINT [\"/bin/bash\" \"-c\" \"e \\\"f\\\"\"]",
            "- HEALTHCHECK {Test:[CMD c] Interval:0s Timeout:1m30s StartPeriod:0s StartInterval:0s Retries:0}",
        ]
    );
    assert_eq!(on_base("CMD [\"a\"]").history.len(), 2);
}

#[test]
fn onbuild_triggers_run_first_and_are_not_inherited() {
    let mut base = base();
    base.config.on_build = vec!["COPY . /app".into(), "RUN <<EOF\nmake\nEOF".into()];
    let found = BTreeMap::from([("base".to_owned(), base)]);
    let stage = valid_plan("FROM base\nONBUILD ADD x /y\nRUN x\n", &settings(), &found);
    let stage = &stage.stages[stage.target];
    let texts: Vec<&str> = stage.steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(texts, ["ONBUILD COPY . /app", "ONBUILD RUN <<EOF (make…)", "RUN x"]);
    assert_eq!(stage.config.config.on_build, ["ADD x /y"]);
    let history: Vec<&str> = stage.config.history.iter().filter_map(|line| line.created_by.as_deref()).collect();
    assert_eq!(
        history[1..],
        ["COPY . /app # buildkit", "RUN /bin/sh -c make\n # buildkit", "RUN /bin/sh -c x # buildkit"]
    );
}

#[test]
fn onbuild_of_a_stage_runs_in_stages_based_on_it() {
    let text = "FROM x AS tool\nFROM x AS a\nONBUILD COPY --from=tool /t /t\nFROM a AS b\nRUN y\nFROM b\nRUN z";
    let plan = valid_plan(text, &settings(), &BTreeMap::new());
    let steps: Vec<Vec<&str>> =
        plan.stages.iter().map(|stage| stage.steps.iter().map(|step| step.text.as_str()).collect()).collect();
    assert_eq!(steps, [vec![], vec![], vec!["ONBUILD COPY --from=tool /t /t", "RUN y"], vec!["RUN z"]]);
    assert_eq!(plan.stages[1].config.config.on_build, ["COPY --from=tool /t /t"]);
    assert!(plan.stages[2].config.config.on_build.is_empty());
}
