//! Whole files: text in, plan out.

mod support;

use support::{errors, plan, plan_with, settings, warnings};

#[test]
fn two_stages() {
    let text = r#"
ARG ELIXIR=1.18
FROM elixir:${ELIXIR} AS build
WORKDIR /app
ENV MIX_ENV=prod
COPY mix.exs mix.lock ./
RUN mix deps.get --only $MIX_ENV && \
    mix deps.compile
COPY lib lib
RUN ["mix", "release"]

FROM debian:bookworm-slim
WORKDIR /app
COPY --from=build --chown=nobody:nogroup /app/_build/prod/rel/demo ./
USER nobody
CMD ["/app/bin/demo", "start"]
"#;
    assert_eq!(
        plan(text),
        "\
stage build (0) on elixir:1.18
  4 WORKDIR /app
    mkdir /app
  5 ENV MIX_ENV=prod
  6 COPY mix.exs mix.lock ./
    copy context: mix.exs mix.lock -> /app/
  7 RUN mix deps.get --only $MIX_ENV && mix deps.compile
    run [\"/bin/sh\", \"-c\", \"mix deps.get --only $MIX_ENV &&     mix deps.compile\"] in /app
  9 COPY lib lib
    copy context: lib -> /app/lib
  10 RUN [\"mix\", \"release\"]
    run [\"mix\", \"release\"] in /app
stage stage-1 (1) on debian:bookworm-slim
  13 WORKDIR /app
    mkdir /app
  14 COPY --from=build --chown=nobody:nogroup /app/_build/prod/rel/demo ./
    copy stage 0: /app/_build/prod/rel/demo -> /app/ chown nobody:nogroup
  15 USER nobody
  16 CMD [\"/app/bin/demo\", \"start\"]
"
    );
}
