//! The rules of the Dockerfile reference, each with an example of its own.

mod support;

use support::{errors, found, settings, target, valid_plan};

use dram_image::ContainerConfig;
use dram_plan::{RunOp, StepOp};

fn config(text: &str) -> ContainerConfig {
    target(&format!("FROM scratch\n{text}")).config.config
}

/// Returns the `RUN` operations of the target, with build arguments.
fn runs(text: &str, build_args: &[(&str, &str)]) -> Vec<RunOp> {
    let mut settings = settings();
    settings.build_args.extend(build_args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let mut plan = valid_plan(text, &settings, &found());
    let steps = plan.stages.swap_remove(plan.target).steps.into_iter();
    steps
        .filter_map(|step| match step.op {
            StepOp::Run(run) => Some(run),
            StepOp::Copy(_) | StepOp::Workdir(_) | StepOp::ConfigOnly => None,
        })
        .collect()
}

/// Returns the value of a variable in the last `RUN`.
fn variable(text: &str, build_args: &[(&str, &str)], name: &str) -> Option<String> {
    let last = runs(text, build_args).pop().expect("the text has a `RUN`");
    last.env.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

#[test]
fn entrypoint_and_cmd_make_the_command_of_a_container() {
    let shell = "ENTRYPOINT serve --all";
    let exec = "ENTRYPOINT [\"serve\", \"--all\"]";
    for (entrypoint, cmd, started) in [
        ("", "", ""),
        ("", "CMD [\"list\", \"x\"]", "list|x"),
        ("", "CMD list x", "/bin/sh|-c|list x"),
        (shell, "", "/bin/sh|-c|serve --all"),
        // A shell ignores the words after its script.
        (shell, "CMD [\"list\", \"x\"]", "/bin/sh|-c|serve --all|list|x"),
        (shell, "CMD list x", "/bin/sh|-c|serve --all|/bin/sh|-c|list x"),
        (exec, "", "serve|--all"),
        (exec, "CMD [\"list\", \"x\"]", "serve|--all|list|x"),
        (exec, "CMD list x", "serve|--all|/bin/sh|-c|list x"),
        // The last of several counts.
        ("ENTRYPOINT [\"old\"]\nENTRYPOINT [\"new\"]", "CMD [\"a\"]\nCMD [\"b\"]", "new|b"),
    ] {
        let config = config(&format!("{entrypoint}\n{cmd}\n"));
        let words = [config.entrypoint, config.cmd].into_iter().flatten().flatten().collect::<Vec<_>>();
        assert_eq!(words.join("|"), started, "{entrypoint} {cmd}");
    }
}

#[test]
fn variables_are_replaced_with_their_modifiers() {
    for (word, value) in [
        ("$W/x", "tartartan/x"),
        ("${W}x", "tartartanx"),
        ("\\$W", "$W"),
        ("\\${W}", "${W}"),
        ("${W:-other}", "tartartan"),
        ("${NONE:-other}", "other"),
        ("${NONE:-$W}", "tartartan"),
        ("${W:+other}", "other"),
        ("${NONE:+other}", ""),
        ("${W#t*r}", "tartan"),
        ("${W##t*r}", "tan"),
        ("${W%t*n}", "tartar"),
        ("${W%%t*n}", ""),
        ("${W/ta/so}", "sortartan"),
        ("${W//ta/so}", "sorsorson"),
    ] {
        let labels = config(&format!("ENV W=tartartan\nLABEL l={word}\n")).labels;
        assert_eq!(labels["l"], value, "{word}");
    }
    assert_eq!(errors("FROM scratch\nLABEL l=${NONE:?is needed}\n").len(), 1);
    // One line is replaced as a whole before its values are set.
    let labels = config("ENV A=one\nENV A=two B=$A\nENV C=$A\nLABEL l=$A-$B-$C\n").labels;
    assert_eq!(labels["l"], "two-one-two");
}

#[test]
fn arguments_are_known_from_their_line_to_the_end_of_their_stage() {
    let given = &[("WHO", "me")];
    let text = "FROM x\nUSER ${WHO:-nobody}\nRUN a\nARG WHO\nUSER $WHO\nRUN b\n";
    let users: Vec<String> = runs(text, given).into_iter().map(|run| run.user).collect();
    assert_eq!(users, ["nobody", "me"]);
    for (text, value) in [
        ("ARG V=1\nFROM x\nRUN y\n", None),
        ("ARG V=1\nFROM x\nARG V\nRUN y\n", Some("1")),
        ("FROM x AS a\nARG V=1\nRUN y\nFROM x\nRUN y\n", None),
        ("FROM x AS a\nARG V=1\nRUN y\nFROM a\nRUN y\n", Some("1")),
        ("FROM x\nARG V=1\nENV V=2\nRUN y\n", Some("2")),
        ("FROM x\nARG V=1\nENV V=${V:-2}\nRUN y\n", Some("1")),
        ("FROM x\nARG V\nENV V=${V:-2}\nRUN y\n", Some("2")),
    ] {
        assert_eq!(variable(text, &[], "V").as_deref(), value, "{text}");
    }
    assert_eq!(variable("FROM x\nARG V\nENV V=${V:-2}\nRUN y\n", &[("V", "3")], "V").as_deref(), Some("3"));
    assert_eq!(variable("FROM x\nARG V=1\nENV V=2\nRUN y\n", &[("V", "3")], "V").as_deref(), Some("2"));
}

#[test]
fn shell_and_exec_forms_and_the_shell_between_them() {
    let text = "FROM x\nRUN echo $HOME\nRUN [\"echo\", \"$HOME\"]\nSHELL [\"/bin/ash\", \"-ec\"]\nRUN a && \\\n  b\n\
                SHELL [\"/bin/sh\", \"-c\"]\nRUN c\n";
    let words: Vec<String> = runs(text, &[]).into_iter().map(|run| run.argv.join("|")).collect();
    assert_eq!(words, ["/bin/sh|-c|echo $HOME", "echo|$HOME", "/bin/ash|-ec|a &&   b", "/bin/sh|-c|c"]);
    // What is no JSON is the shell form.
    assert_eq!(runs("FROM x\nRUN ['a', 'b']\n", &[])[0].argv, ["/bin/sh", "-c", "['a', 'b']"]);
}

#[test]
fn relative_directories_are_below_the_last_one() {
    for (text, dir) in [
        ("WORKDIR /srv\nWORKDIR one\nWORKDIR two\n", "/srv/one/two"),
        ("ENV ROOT=/srv\nWORKDIR $ROOT/$NAME\n", "/srv"),
        ("WORKDIR one\n", "/one"),
        ("WORKDIR /srv/one\nWORKDIR ../two\n", "/srv/two"),
        ("WORKDIR /srv\nWORKDIR /opt\n", "/opt"),
    ] {
        assert_eq!(config(text).working_dir.trim_end_matches('/'), dir, "{text}");
    }
}

#[test]
fn health_checks_signals_users_ports_volumes_and_labels() {
    let second = 1_000_000_000;
    let check = config(
        "HEALTHCHECK NONE\nHEALTHCHECK --interval=2m --timeout=4s --start-period=10s --start-interval=1s --retries=5 \\\n\
         CMD wget -q localhost || exit 1\n",
    );
    let check = check.healthcheck.unwrap();
    assert_eq!(check.test, ["CMD-SHELL", "wget -q localhost || exit 1"]);
    assert_eq!((check.interval, check.timeout, check.retries), (120 * second, 4 * second, 5));
    assert_eq!((check.start_period, check.start_interval), (10 * second, second));
    let check = config("HEALTHCHECK CMD [\"ok\", \"a b\"]\n").healthcheck.unwrap();
    assert_eq!(check.test, ["CMD", "ok", "a b"]);
    for signal in ["SIGQUIT", "15"] {
        assert_eq!(config(&format!("STOPSIGNAL {signal}\n")).stop_signal.as_deref(), Some(signal));
    }
    assert_eq!(config("USER app:staff\n").user, "app:staff");
    let ports = config("EXPOSE 53/tcp 53/udp\nEXPOSE 8080\n").exposed_ports;
    assert_eq!(ports.keys().map(String::as_str).collect::<Vec<_>>(), ["53/tcp", "53/udp", "8080/tcp"]);
    let volumes = config("VOLUME [\"/data\"]\nVOLUME /a /b\n").volumes;
    assert_eq!(volumes.keys().map(String::as_str).collect::<Vec<_>>(), ["/a", "/b", "/data"]);
    let labels = config("LABEL a=\"x y\" b='$N' c=one\\\ntwo\nLABEL a=z\n").labels;
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["a=z", "b=$N", "c=onetwo"]);
}

#[test]
fn directives_stand_at_the_top_and_only_there() {
    let run = |text: &str| runs(text, &[])[0].argv[2].clone();
    assert_eq!(run("# escape=`\nFROM x\nRUN dir c:\\\nRUN y\n"), "dir c:\\");
    assert_eq!(run("# escape=`\nFROM x\nRUN a `\n b\n"), "a  b");
    assert_eq!(run("# syntax=docker/dockerfile:1\n# escape=`\nFROM x\nRUN a `\n b\n"), "a  b");
    assert_eq!(run("#  eScApE = `\nFROM x\nRUN a `\n b\n"), "a  b");
    // Below a comment, an empty line or an instruction it is a comment.
    for above in ["# a comment", "# unknown=1", ""] {
        assert_eq!(run(&format!("{above}\n# escape=`\nFROM x\nRUN a \\\n b\n")), "a  b", "{above}");
    }
    assert_eq!(errors("# escape=\\\n# escape=`\nFROM scratch\n").len(), 1);
    // Comments between continued lines are dropped, and are no comment behind other words.
    assert_eq!(run("FROM x\nRUN a \\\n# dropped\n b # kept\n"), "a  b # kept");
}

#[test]
fn triggers_run_in_the_next_stage_and_not_in_the_one_after() {
    let text = "FROM scratch AS base\nONBUILD LABEL t=1\nFROM base AS child\nLABEL c=1\nFROM child\nLABEL g=1\n";
    let plan = valid_plan(text, &settings(), &found());
    let stages: Vec<(usize, Vec<String>)> = plan
        .stages
        .iter()
        .map(|stage| (stage.config.config.on_build.len(), stage.config.config.labels.keys().cloned().collect()))
        .collect();
    let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(stages, [(1, labels(&[])), (0, labels(&["c", "t"])), (0, labels(&["c", "g", "t"]))]);
    assert_eq!(plan.stages[1].steps.len(), 2);
    assert_eq!(plan.stages[2].steps.len(), 1);
    for trigger in ["ONBUILD RUN x", "FROM y", "MAINTAINER z"] {
        assert_eq!(errors(&format!("FROM scratch\nONBUILD {trigger}\n")).len(), 1, "{trigger}");
    }
}
