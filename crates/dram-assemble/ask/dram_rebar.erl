%% Queries a rebar3 project for its releases: rebar.config and its script, the profile,
%% and the `relx` section with its overlays.
%%
%%   escript ask.escript [--beams DIR] PROJECT_DIR ANSWER_FILE [OPTION...] [RELEASE]
%%
%% The caller has compiled the project. Options: `--profile P` (default: prod; `a,b` are
%% two profiles), `--version V`, `--all`, `--output-dir DIR` (the value of the release's
%% root in templates), `--config FILE` in place of the relx section.
%%
%% The answer is one term in ANSWER_FILE, as with mix.exs: `{ok, map}` or `{error, map}`,
%% paths and texts as binaries, `nil` for missing values, `{unprintable, text}` for terms
%% that cannot leave the emulator. The error's map: kind, message, file, line, stack; the
%% answer's map is documented at `answer/2` and `release/3`. Terms of the user (values of
%% unknown settings, included applications of goals) are passed on unchanged.
-module(dram_rebar).
-export([main/2, tup_merge/2]).

-define(FORMAT, 1).

main(Args, Own) ->
    {Before, [Project, Answer0 | After]} = options(Args, #{}),
    {Options, Rest} = options(After, Before),
    Answer = filename:absname(Answer0),
    ok = file:set_cwd(Project),
    dram_inputs:start(),
    Term = try {ok, answer(Options, Rest)}
           catch
               throw:{ask, Error} -> {error, Error};
               Class:Reason:Stack -> {error, failed(Class, Reason, Stack)}
           end,
    Inputs = dram_inputs:stop([Answer, code:root_dir() | Own]),
    Whole = case Term of
                {ok, Map} -> {ok, Map#{inputs => Inputs}};
                _ -> Term
            end,
    Half = Answer ++ "." ++ os:getpid(),
    ok = file:write_file(Half, term_to_binary(Whole)),
    ok = file:rename(Half, Answer).

options(["--all" | Args], Options) -> options(Args, Options#{all => true});
options(["--" ++ Name, Value | Args], Options) ->
    options(Args, Options#{list_to_atom(Name) => Value});
options(Args, Options) -> {Options, Args}.

%% ---- the answer ----

%% format    integer
%% kind      rebar
%% elixir    nil
%% otp       #{root, lib, release, version, erts}
%% project   #{file, dir, profiles: [atom], build: _build/PROFILE, lib: build/lib,
%%             lockfile, apps: [{app, dir}] (the project's own)}
%% deps      [#{app, build, ebin, source}] of all below build/lib
%% names     [{name, version}] as configured, in order
%% default   nil
%% releases  [map]   the one that was asked for, or all; see release/3
answer(Options, Rest) ->
    Profiles = [list_to_atom(P) || P <- string:tokens(maps:get(profile, Options, "prod"), ","),
                                   P =/= "default"],
    [os:getenv(Name) || Name <- ["ERL_LIBS", "ERL_FLAGS", "ERL_AFLAGS", "ERL_ZFLAGS"]],
    Config = with_profiles(Profiles, rebar_config()),
    Base = base_dir(Profiles, Config),
    Lib = filename:join(Base, "lib"),
    Built = with_checkouts(built(Lib), built(filename:join(Base, "checkouts"))),
    Relx = relx(Config, Options),
    Global = [{profile_string, profile_name(Profiles)}],
    Defaults = [{mode, prod} || lists:member(prod, Profiles)]
        ++ [{output_dir, filename:join(Base, "rel")},
            {overlay_vars_values, Global},
            {overlay_vars, [{base_dir, Base}]}],
    State = load(Defaults ++ one_overlay(Relx), new()),
    Releases = lists:reverse(maps:get(releases, State)),
    Chosen = case Options of
                 #{all := true} -> Releases;
                 _ -> [choose(Rest, Options, Releases)]
             end,
    #{format => ?FORMAT,
      kind => rebar,
      elixir => nil,
      otp => otp(),
      project => #{file => path("rebar.config"),
                   dir => path("."),
                   profiles => Profiles,
                   build => path(Base),
                   lib => path(Lib),
                   lockfile => path("rebar.lock"),
                   apps => project_apps(Config)},
      deps => [#{app => App, build => path(Dir), ebin => path(filename:join(Dir, "ebin")),
                 source => source(Dir)} || {App, Dir} <- Built],
      names => [{Name, text(Vsn)} || #{name := Name, vsn := Vsn} <- Releases],
      default => nil,
      releases => [release(Release, State, {Built, Options}) || Release <- Chosen]}.

otp() ->
    Root = code:root_dir(),
    Release = erlang:system_info(otp_release),
    Version = case file:read_file(filename:join([Root, "releases", Release, "OTP_VERSION"])) of
                  {ok, Text} -> string:trim(Text);
                  _ -> text(Release)
              end,
    #{root => path(Root), lib => path(code:lib_dir()), release => text(Release),
      version => Version, erts => text(erlang:system_info(version))}.

%% name, version
%% path          where `rebar3 release` would put it
%% goals         [#{app, vsn: text | nil, type: atom | nil, included: [app] | nil}]
%% erts          text | nil      as the release asks for it
%% mode          dev | prod | minimal | nil
%% include_erts  boolean | path
%% system_libs   boolean | path
%% debug_info    keep | strip
%% include_src, dev_mode, extended_start_script, generate_start_script, include_nodetool
%%               booleans
%% lib_dirs      [path]
%% exclude_apps  [app];  exclude_modules [{app, [module]}];  overrides [{app, path}]
%% vm_args, sys_config   #{kind: file | src | default | none, path: path | nil}
%%               default: there is none and the caller writes one; none: switched off
%% hooks         [{event, [hook]}]   extended_start_script_hooks
%% extensions    [{name, path}]      extended_start_script_extensions
%% start_scripts_for  [atom] | nil
%% overlays      [{mkdir, To} | {copy | link, From, To} | {template, From, To, Text}
%%               | {chmod, Mode, Path}]   in order, as it is after the variables: `To` and
%%               `Path` are relative to the release, `From` is absolute and may have wild
%%               cards; a link is a copy unless mode is dev
%% overlay_vars  [{name, value}]
%% unknown       [term]     settings that relx does not know
release(#{name := Name, goals := Goals} = Release, State0, {Built, Options}) ->
    #{config := Config, erts := Erts} = Release,
    Vsn = maps:get(version, Options, maps:get(vsn, Release)),
    State = load(Config, State0),
    Get = fun(Key) -> maps:get(Key, State) end,
    Root = Get(root_dir),
    Output = filename:join(Get(output_dir), Name),
    Vars = variables(Name, Vsn, Erts, State, Built, maps:get('output-dir', Options, Output)),
    #{name => Name,
      version => text(Vsn),
      path => path(Output),
      goals => Goals,
      erts => maybe_text(Erts),
      mode => nil(Get(mode)),
      include_erts => maybe_path(Get(include_erts)),
      system_libs => maybe_path(Get(system_libs)),
      debug_info => Get(debug_info),
      include_src => Get(include_src) =:= true,
      dev_mode => Get(dev_mode),
      extended_start_script => Get(extended_start_script),
      generate_start_script => Get(generate_start_script),
      include_nodetool => Get(include_nodetool),
      lib_dirs => [path(Dir) || Dir <- Get(lib_dirs)],
      exclude_apps => Get(exclude_apps),
      exclude_modules => Get(exclude_modules),
      overrides => [{App, path(Dir)} || {App, Dir} <- Get(overrides)],
      vm_args => file(Root, "vm.args", Get(vm_args), Get(vm_args_src)),
      sys_config => file(Root, "sys.config", Get(sys_config), Get(sys_config_src)),
      hooks => printable(Get(extended_start_script_hooks)),
      extensions => [{Command, text(Path)}
                     || {Command, Path} <- Get(extended_start_script_extensions)],
      start_scripts_for => nil(Get(include_start_scripts_for)),
      overlays => [overlay(Overlay, Root, Vars, State) || Overlay <- Get(overlay)],
      overlay_vars => printable([{Key, Value} || {Key, Value} <- Vars, not is_app(Key, Built)]),
      unknown => printable(lists:reverse(Get(unknown)))}.

is_app(Key, Built) -> lists:keymember(Key, 1, Built).

%% A setting of either kind, or a file in config/.
file(Root, Name, Plain, Source) ->
    In = fun(File) -> filename:join([Root, "config", File]) end,
    Is = fun(File) -> filelib:is_regular(In(File)) end,
    {Kind, Path} =
        if
            Source =/= undefined, Source =/= false -> {src, Source};
            Plain =:= false -> {none, nil};
            Plain =/= undefined -> {file, Plain};
            true ->
                case Source =:= undefined andalso Is(Name ++ ".src") of
                    true -> {src, In(Name ++ ".src")};
                    false ->
                        case Is(Name) of
                            true -> {file, In(Name)};
                            false -> {default, nil}
                        end
                end
        end,
    Path =:= nil orelse filelib:is_regular(Path)
        orelse refuse(config, [Name, " is set to a file that is not there"], Path),
    #{kind => Kind, path => case Path of nil -> nil; _ -> path(Path) end}.

%% The release of that name, or the only name there is; of several versions the highest.
choose(Rest, Options, Releases) ->
    Names = lists:usort([Name || #{name := Name} <- Releases]),
    Known = lists:join(", ", [atom_to_list(Name) || Name <- Names]),
    Wanted = case {Rest, Names} of
                 {[Name | _], _} -> list_to_atom(Name);
                 {[], [Name]} -> Name;
                 {[], []} -> refuse(unknown_release, "rebar.config has no release under relx", "rebar.config");
                 {[], _} -> refuse(choose_release, ["there are several releases: ", Known], "rebar.config")
             end,
    Version = maps:get(version, Options, any),
    Found = [Release || #{name := Name, vsn := Vsn} = Release <- Releases, Name =:= Wanted,
                        Version =:= any orelse Version =:= Vsn],
    case {lists:sort(fun(#{vsn := A}, #{vsn := B}) -> ordered(A) >= ordered(B) end, Found),
          [Release || #{name := Name} = Release <- Releases, Name =:= Wanted]} of
        {[Release | _], _} -> Release;
        {[], [Release | _]} -> Release;
        {[], []} ->
            refuse(unknown_release, ["there is no release named ", atom_to_list(Wanted), ", only ", Known],
                   "rebar.config")
    end.

%% 1.2.0 is after 1.2.0-rc.1 and before 1.10.0.
ordered(Vsn) ->
    {Main, Rest} = lists:splitwith(fun(C) -> C =/= $- andalso C =/= $+ end, Vsn),
    {[case string:to_integer(Part) of {N, []} when is_integer(N) -> {1, N}; _ -> {0, Part} end
      || Part <- string:tokens(Main, ".")],
     case Rest of "-" ++ _ -> 0; _ -> 1 end,
     Rest}.

%% ---- rebar.config ----

rebar_config() ->
    File = "rebar.config",
    Config = case consult(File) of
                 {ok, Terms} -> Terms;
                 enoent -> []
             end,
    Script = File ++ ".script",
    case filelib:is_regular(Script) of
        false ->
            case Config =:= [] andalso not filelib:is_regular(File) of
                true -> refuse(no_project, "there is no rebar.config", File);
                false -> Config
            end;
        true ->
            Bindings = [{'CONFIG', Config}, {'SCRIPT', filename:absname(Script)}],
            case file:script(Script, Bindings) of
                {ok, Result} when is_list(Result) -> Result;
                {ok, _} -> refuse(config, "the script does not end with a list", Script);
                {error, Why} -> unreadable(Script, Why)
            end
    end.

consult(File) ->
    case file:consult(File) of
        {ok, Terms} -> {ok, Terms};
        {error, enoent} -> enoent;
        {error, Why} -> unreadable(File, Why)
    end.

unreadable(File, Why) ->
    Line = case Why of
               {{L, _}, _, _} -> L;
               {L, _, _} when is_integer(L) -> L;
               _ -> nil
           end,
    throw({ask, #{kind => compile, message => text(file:format_error(Why)),
                  file => path(File), line => Line, stack => <<>>}}).

%% Merges only what a release needs: `relx`, and plain values, which the profile
%% overrides or keeps.
with_profiles(Profiles, Config) ->
    Sections = proplists:get_value(profiles, Config, []),
    lists:foldl(
      fun(Profile, Acc) ->
              lists:foldl(fun({relx, New}, Terms) ->
                                  Old = proplists:get_value(relx, Terms, []),
                                  lists:keystore(relx, 1, Terms, {relx, merge_relx(New, Old)});
                             (Term, Terms) when is_tuple(Term) ->
                                  lists:keystore(element(1, Term), 1, Terms, Term);
                             (_, Terms) -> Terms
                          end, Acc, proplists:get_value(Profile, Sections, []))
      end, Config, Profiles).

%% Settings of a profile come after those of the file, and so win; but they are sorted by
%% name, and that is seen where one setting is short for others, as `mode` is.
merge_relx(New, []) -> New;
merge_relx(New, Old) ->
    {NewOverlays, NewRest} = lists:partition(fun is_overlay/1, New),
    {OldOverlays, OldRest} = lists:partition(fun is_overlay/1, Old),
    tup_merge(NewOverlays, OldOverlays) ++ tup_merge(OldRest, NewRest).

is_overlay(Term) -> is_tuple(Term) andalso element(1, Term) =:= overlay.

%% By name; of one name, those of the first list before those of the second.
tup_merge(First, Second) ->
    Key = fun(T) when is_tuple(T) -> element(1, T); (T) -> T end,
    Sorted = lists:sort(fun(A, B) -> Key(A) =< Key(B) end, First ++ Second),
    once(Sorted, []).

once([Term | Rest], Seen) ->
    case lists:member(Term, Seen) of
        true -> once(Rest, Seen);
        false -> [Term | once(Rest, [Term | Seen])]
    end;
once([], _) -> [].

profile_name([]) -> "default";
profile_name(Profiles) -> string:join([atom_to_list(P) || P <- Profiles], "+").

base_dir(Profiles, Config) ->
    Root = case os:getenv("REBAR_BASE_DIR") of
               false -> proplists:get_value(base_dir, Config, "_build");
               Dir -> Dir
           end,
    filename:absname(filename:join(Root, profile_name(Profiles))).

relx(Config, #{config := File}) ->
    _ = Config,
    case consult(File) of
        {ok, Terms} -> Terms;
        enoent -> refuse(no_project, "there is no such file", File)
    end;
relx(Config, _) ->
    case {proplists:get_value(relx, Config, []), consult("relx.config")} of
        {[], {ok, Terms}} -> Terms;
        {Relx, _} -> Relx
    end.

%% One overlay setting out of all; of a merge, the profile's part comes last.
one_overlay(Relx) ->
    {Overlays, Others} = lists:partition(fun is_overlay/1, Relx),
    [{overlay, lists:append([O || {overlay, O} <- lists:reverse(Overlays)])} | Others].

project_apps(Config) ->
    Globs = proplists:get_value(project_app_dirs, Config, ["apps/*", "lib/*", "."]),
    lists:usort(
      [{list_to_atom(filename:basename(filename:basename(File, ".src"), ".app")), path(Dir)}
       || Glob <- Globs, Dir <- filelib:wildcard(Glob),
          File <- filelib:wildcard(filename:join([Dir, "src", "*.app.src"]))]).

built(Lib) ->
    Names = case file:list_dir(Lib) of
                {ok, All} -> lists:sort(All);
                {error, _} -> []
            end,
    [{list_to_atom(Name), filename:join(Lib, Name)}
     || [First | _] = Name <- Names, First =/= $.,
        filelib:is_regular(filename:join([Lib, Name, "ebin", Name ++ ".app"]))].

%% A dependency in `_checkouts` takes the place of the one with its name.
with_checkouts(Built, Checkouts) ->
    lists:ukeysort(1, Checkouts ++ Built).

%% rebar3 links what it does not have to build elsewhere.
source(Dir) ->
    case file:read_link(filename:join(Dir, "src")) of
        {ok, Target} ->
            Whole = filename:absname(Target, Dir),
            path(followed(filename:dirname(tidy(Whole))));
        {error, _} -> nil
    end.

%% An entry of `_checkouts` is often a link to the directory of a dependency.
followed(Dir) ->
    case file:read_link(Dir) of
        {ok, Target} -> tidy(filename:absname(Target, filename:dirname(Dir)));
        {error, _} -> Dir
    end.

tidy(Path) ->
    filename:join(lists:reverse(lists:foldl(fun("..", [_ | Up]) -> Up;
                                               (".", Up) -> Up;
                                               (Part, Up) -> [Part | Up]
                                            end, [], filename:split(Path)))).

%% ---- relx ----

new() ->
    {ok, Root} = file:get_cwd(),
    #{root_dir => Root, output_dir => filename:join(Root, "_rel"), releases => [], unknown => [],
      mode => undefined, lib_dirs => [], exclude_apps => [], exclude_modules => [],
      overrides => [], debug_info => keep, include_src => undefined, include_erts => false,
      system_libs => true, dev_mode => false, vm_args => undefined, vm_args_src => undefined,
      sys_config => undefined, sys_config_src => undefined, overlay => [], overlay_vars => [],
      overlay_vars_values => [], extended_start_script => true, generate_start_script => true,
      include_nodetool => true, extended_start_script_hooks => [],
      extended_start_script_extensions => [], include_start_scripts_for => undefined}.

%% Settings in order: a later setting overrides an earlier one.
load(Terms, State) -> lists:foldl(fun setting/2, State, Terms).

setting({mode, Mode}, State) ->
    load(case Mode of
             dev -> [{include_src, true}, {debug_info, keep}, {include_erts, false}];
             prod -> [{include_src, false}, {debug_info, strip}, {include_erts, true}, {dev_mode, false}];
             minimal -> [{include_src, false}, {debug_info, strip}, {include_erts, false}, {dev_mode, false}];
             _ -> refuse(config, io_lib:format("relx has no mode ~tp", [Mode]), "rebar.config")
         end, State#{mode := Mode});
setting({dev_mode, true}, State) ->
    (setting({mode, dev}, State))#{dev_mode := true};
setting({release, {Name, Vsn, {extend, Of}}, Goals}, State) ->
    extended(Name, Vsn, Of, Goals, [], State);
setting({release, {Name, Vsn, {extend, Of}}, Goals, Config}, State) ->
    extended(Name, Vsn, Of, Goals, Config, State);
setting({release, {Name, Vsn}, {erts, Erts}, Goals}, State) ->
    add(Name, version(Vsn), Erts, goals(Goals), [], State);
setting({release, {Name, Vsn}, {erts, Erts}, Goals, Config}, State) ->
    add(Name, version(Vsn), Erts, goals(Goals), Config, State);
setting({release, {Name, Vsn}, Goals}, State) ->
    add(Name, version(Vsn), undefined, goals(Goals), [], State);
setting({release, {Name, Vsn}, Goals, Config}, State) ->
    add(Name, version(Vsn), undefined, goals(Goals), Config, State);
setting({lib_dirs, Dirs}, #{lib_dirs := Before} = State) ->
    State#{lib_dirs := Before ++ lists:append([filelib:wildcard(Dir) || Dir <- strings(Dirs)])};
setting({Key, Path}, State)
  when Key =:= vm_args; Key =:= vm_args_src; Key =:= sys_config; Key =:= sys_config_src ->
    State#{Key := if is_atom(Path) -> Path; true -> filename:absname(Path) end};
setting({Key, Path}, State) when Key =:= root_dir; Key =:= output_dir ->
    State#{Key := filename:absname(Path)};
setting({overlay_vars_values, Values}, #{overlay_vars_values := Before} = State) ->
    State#{overlay_vars_values := Before ++ Values};
setting({overlay_vars, Values}, #{overlay_vars := Before} = State) ->
    State#{overlay_vars := Before ++ strings(Values)};
setting({Key, Value}, State)
  when Key =:= exclude_apps; Key =:= exclude_modules; Key =:= overrides; Key =:= debug_info;
       Key =:= include_src; Key =:= include_erts; Key =:= system_libs; Key =:= dev_mode;
       Key =:= overlay; Key =:= extended_start_script; Key =:= generate_start_script;
       Key =:= include_nodetool; Key =:= extended_start_script_hooks;
       Key =:= extended_start_script_extensions; Key =:= include_start_scripts_for ->
    State#{Key := Value};
%% Settings of relx itself, which do not concern a release.
setting({Key, _}, State)
  when Key =:= warnings_as_errors; Key =:= src_tests; Key =:= exref; Key =:= upfrom;
       Key =:= check_for_undefined_functions -> State;
setting(Term, #{unknown := Unknown} = State) -> State#{unknown := [Term | Unknown]}.

%% A string, or a list of strings (or of pairs, which are left).
strings(undefined) -> [];
strings([]) -> [];
strings([Head | _] = List) when is_list(Head); is_tuple(Head); is_binary(Head) -> List;
strings(String) -> [String].

add(Name, Vsn, Erts, Goals, Config, #{releases := Releases} = State) ->
    Others = [R || #{name := N, vsn := V} = R <- Releases, {N, V} =/= {Name, Vsn}],
    Release = #{name => Name, vsn => Vsn, erts => Erts, goals => Goals, config => Config},
    State#{releases := [Release | Others]}.

extended(Name, Vsn0, Of, Goals, Config, #{releases := Releases} = State) ->
    Vsn = version(Vsn0),
    {BaseName, BaseVsn} = case Of of {Other, OtherVsn} -> {Other, version(OtherVsn)}; _ -> {Of, Vsn} end,
    case [R || #{name := N, vsn := V} = R <- Releases, {N, V} =:= {BaseName, BaseVsn}] of
        [#{goals := Base}] ->
            Merged = lists:foldl(fun(#{app := App} = Goal, Acc) -> put_goal(App, Goal, Acc) end,
                                 Base, goals(Goals)),
            add(Name, Vsn, undefined, Merged, Config, State);
        [] ->
            refuse(config, io_lib:format("the release ~ts extends ~ts ~ts, which is not there",
                                         [Name, BaseName, BaseVsn]), "rebar.config")
    end.

put_goal(App, Goal, [#{app := App} | Rest]) -> [Goal | Rest];
put_goal(App, Goal, [Other | Rest]) -> [Other | put_goal(App, Goal, Rest)];
put_goal(_, Goal, []) -> [Goal].

goals(Goals) -> [goal(Goal) || Goal <- Goals].

goal(App) when is_atom(App) -> goal({App});
goal(Goal) when is_tuple(Goal), is_atom(element(1, Goal)) ->
    [App | Rest] = tuple_to_list(Goal),
    parts(Rest, #{app => App, vsn => nil, type => nil, included => nil}, Goal);
goal(Goal) -> bad_goal(Goal).

parts([], Goal, _) -> Goal;
parts([Type | Rest], Goal, Whole)
  when Type =:= permanent; Type =:= transient; Type =:= temporary; Type =:= load; Type =:= none ->
    parts(Rest, Goal#{type := Type}, Whole);
parts([[] | Rest], Goal, Whole) -> parts(Rest, Goal#{included := []}, Whole);
parts([[App | _] = Apps | Rest], Goal, Whole) when is_atom(App) ->
    parts(Rest, Goal#{included := Apps}, Whole);
parts([Vsn | Rest], Goal, Whole) when is_list(Vsn) -> parts(Rest, Goal#{vsn := text(Vsn)}, Whole);
parts(_, _, Whole) -> bad_goal(Whole).

bad_goal(Goal) -> refuse(config, io_lib:format("not an application of a release: ~tp", [Goal]), "rebar.config").

%% ---- versions ----

version(git) -> of_git();
version("git") -> of_git();
version(semver) -> of_git();
version("semver") -> of_git();
version({semver, _}) -> of_git();
version({git, short}) -> commit("--short ");
version({git, long}) -> commit("");
version({file, File}) ->
    case file:read_file(File) of
        {ok, Text} -> string:trim(unicode:characters_to_list(Text), both, "\n");
        {error, _} -> "0.0.0"
    end;
version({cmd, Command}) ->
    case run(Command) of
        {0, Text} -> Text;
        _ -> "0.0.0"
    end;
version(Vsn) when is_binary(Vsn) -> unicode:characters_to_list(Vsn);
version(Vsn) -> Vsn.

commit(Flag) ->
    case run("git rev-parse " ++ Flag ++ "HEAD") of
        {0, Text} ->
            case string:trim(Text, both, "\n") of
                Ref when length(Ref) =:= 40; length(Ref) =:= 7 -> Ref;
                _ -> "0.0.0"
            end;
        _ -> "0.0.0"
    end.

%% The last tag, and if there are commits since, how many and which is the last.
of_git() ->
    case {run("git log -n 1 --pretty=format:%h"), run("git describe --abbrev=0 --tags")} of
        {{0, Ref}, {0, Tag0}} ->
            Tag = string:trim(Tag0),
            Vsn = string:trim(Tag, leading, "v"),
            case run("git rev-list --count " ++ Tag ++ "..HEAD") of
                {0, Count} ->
                    case string:trim(Count) of
                        "0" -> Vsn;
                        N -> Vsn ++ "+build." ++ N ++ ".ref" ++ string:trim(Ref)
                    end;
                _ -> "0.0.0"
            end;
        _ -> "0.0.0"
    end.

run(Command) ->
    Port = open_port({spawn, Command}, [exit_status, use_stdio, stderr_to_stdout, hide, binary]),
    output(Port, <<>>).

output(Port, Acc) ->
    receive
        {Port, {data, Data}} -> output(Port, <<Acc/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, unicode:characters_to_list(Acc)}
    end.

%% ---- overlays ----

variables(Name, Vsn, Erts0, State, Built, Output) ->
    Erts = case Erts0 of undefined -> erlang:system_info(version); _ -> Erts0 end,
    #{root_dir := Root, overrides := Overrides, lib_dirs := LibDirs, vm_args := VmArgs,
      sys_config := SysConfig, overlay_vars := Named, overlay_vars_values := Values} = State,
    Own = [{output_dir, Output}, {target_dir, Output},
           {overridden, [App || {App, _} <- Overrides]}, {overrides, Overrides},
           {lib_dirs, LibDirs}, {vm_args, VmArgs}, {sys_config, SysConfig}, {root_dir, Root}]
        ++ Built ++
        [{erts_vsn, Erts}, {erts_dir, code:root_dir()}, {release_erts_version, Erts},
         {release_name, Name}, {release_version, Vsn},
         {release, atom_to_list(Name) ++ "-" ++ Vsn}],
    with_named(Named, Own ++ Values, Root).

with_named(Named, Before, Root) ->
    rendered_vars(named(Named, Root, []), Before, []) ++ Before.

%% Pairs, and files of pairs; a file may name files, relative to where it lies.
named([{Key, _} = Pair | Rest], Dir, Acc) ->
    named(Rest, Dir, lists:keystore(Key, 1, Acc, Pair));
named([File | Rest], Dir, Acc) ->
    Path = filename:join(Dir, to_list(File)),
    case consult(Path) of
        {ok, Terms} ->
            New = named(Terms, filename:dirname(Path), []),
            Kept = [Pair || {Key, _} = Pair <- Acc, not lists:keymember(Key, 1, New)],
            named(Rest, Dir, Kept ++ New);
        enoent -> named(Rest, Dir, Acc)
    end;
named([], _, Acc) -> Acc.

%% A value may use the ones before it.
rendered_vars([{Key, Value} | Rest], Before, Acc) ->
    Vars = Acc ++ Before,
    New = if
              is_binary(Value) -> render(Value, Vars);
              is_list(Value), Value =/= [] ->
                  case io_lib:printable_unicode_list(Value) of
                      true -> render(Value, Vars);
                      false ->
                          case lists:all(fun(T) -> is_tuple(T) andalso size(T) =:= 2 end, Value) of
                              true -> rendered_vars(Value, Vars, []);
                              false -> Value
                          end
                  end;
              true -> Value
          end,
    rendered_vars(Rest, Before, Acc ++ [{Key, New}]);
rendered_vars([], _, Acc) -> Acc.

overlay({mkdir, Dir}, _, Vars, _) -> {mkdir, render(Dir, Vars)};
overlay({Kind, From, To}, Root, Vars, _) when Kind =:= copy; Kind =:= link ->
    {Kind, from(Root, From, Vars), render(To, Vars)};
overlay({template, From, To}, Root, Vars, _) ->
    template(from(Root, From, Vars), render(To, Vars), Vars);
overlay({template, From, To, File}, Root, Vars0, _) ->
    Vars = with_named([File], Vars0, Root),
    template(from(Root, From, Vars), render(To, Vars), Vars);
overlay({chmod, Mode, Path}, _, Vars, _) ->
    Number = if is_integer(Mode) -> Mode; true -> binary_to_integer(render(Mode, Vars)) end,
    {chmod, Number, render(Path, Vars)};
overlay(Other, _, _, _) ->
    refuse(config, io_lib:format("not an overlay: ~tp", [Other]), "rebar.config").

from(Root, From, Vars) -> path(filename:join(Root, unicode:characters_to_list(render(From, Vars)))).

template(From, To, Vars) ->
    case file:read_file(From) of
        {ok, Text} -> {template, From, To, render(Text, Vars)};
        {error, Why} -> refuse(config, ["a template cannot be read: ", file:format_error(Why)], From)
    end.

%% ---- templates: mustache, without escaping and without partials ----

render(Template, Vars) ->
    Text = unicode:characters_to_binary(Template),
    {Tree, _} = parse(Text, {<<"{{">>, <<"}}">>}, top, []),
    unicode:characters_to_binary(expand(Tree, [Vars])).

%% [binary | {value, Keys} | {section | inverse, Keys, Tree}]
parse(Text, {Open, Close} = Marks, Until, Acc) ->
    case binary:split(Text, Open) of
        [Last] when Until =:= top -> {lists:reverse([Last | Acc]), <<>>};
        [_] -> refuse(config, ["a section of a template is not closed: ", Until], "rebar.config");
        [Before, Rest] -> tag(Before, Rest, Close, Marks, Until, Acc)
    end.

tag(Before, <<"{", Rest/binary>>, Close, {<<"{{">>, _} = Marks, Until, Acc) ->
    {Name, After} = upto(Rest, <<"}", Close/binary>>),
    parse(After, Marks, Until, [{value, keys(Name)}, Before | Acc]);
tag(Before, Rest, Close, {Open, _} = Marks, Until, Acc) ->
    {Inside, After} = upto(Rest, Close),
    case Inside of
        <<"&", Name/binary>> -> parse(After, Marks, Until, [{value, keys(Name)}, Before | Acc]);
        <<Sign, Name/binary>> when Sign =:= $#; Sign =:= $^ ->
            {Text, Next} = alone(Before, After),
            {Tree, End} = parse(Next, Marks, string:trim(Name), []),
            Kind = case Sign of $# -> section; $^ -> inverse end,
            parse(End, Marks, Until, [{Kind, keys(Name), Tree}, Text | Acc]);
        <<"/", Name/binary>> ->
            string:trim(Name) =:= Until
                orelse refuse(config, ["a section of a template is closed that is not open: ", Name],
                              "rebar.config"),
            {Text, Next} = alone(Before, After),
            {lists:reverse([Text | Acc]), Next};
        <<"!", _/binary>> ->
            {Text, Next} = alone(Before, After),
            parse(Next, Marks, Until, [Text | Acc]);
        <<"=", Signs/binary>> ->
            {Text, Next} = alone(Before, After),
            [New, Pair] = binary:split(string:trim(string:trim(Signs, trailing, "=")), <<" ">>),
            parse(Next, {New, string:trim(Pair)}, Until, [Text | Acc]);
        _ ->
            _ = Open,
            parse(After, Marks, Until, [{value, keys(Inside)}, Before | Acc])
    end.

upto(Text, Close) ->
    case binary:split(Text, Close) of
        [Inside, After] -> {Inside, After};
        [_] -> refuse(config, "a template has a tag that does not end", "rebar.config")
    end.

%% A line that contains only such a tag is removed.
alone(Before, After) ->
    Line = lists:last(binary:split(Before, <<"\n">>, [global])),
    Blank = string:trim(Line, both, " \t") =:= <<>>,
    case {Blank, re:run(After, "^[ \\t]*(\\r?\\n|$)", [{capture, first}])} of
        {true, {match, [{0, Length}]}} ->
            {binary:part(Before, 0, byte_size(Before) - byte_size(Line)),
             binary:part(After, Length, byte_size(After) - Length)};
        _ -> {Before, After}
    end.

keys(Name) ->
    case string:trim(Name) of
        <<".">> -> [self];
        Whole -> [unicode:characters_to_list(Part) || Part <- binary:split(Whole, <<".">>, [global])]
    end.

expand(Tree, Stack) -> [node(Node, Stack) || Node <- Tree].

node(Text, _) when is_binary(Text) -> Text;
node({value, Keys}, Stack) ->
    case look(Keys, Stack) of
        none -> <<>>;
        Value -> shown(Value)
    end;
node({inverse, Keys, Tree}, Stack) ->
    case empty(look(Keys, Stack)) of
        true -> expand(Tree, Stack);
        false -> []
    end;
node({section, Keys, Tree}, Stack) ->
    Value = look(Keys, Stack),
    case empty(Value) of
        true -> [];
        false when is_list(Value) ->
            case {pairs(Value), io_lib:printable_unicode_list(Value)} of
                {true, _} -> expand(Tree, [Value | Stack]);
                {false, true} -> expand(Tree, Stack);
                {false, false} -> [expand(Tree, [Item | Stack]) || Item <- Value]
            end;
        false -> expand(Tree, [Value | Stack])
    end.

empty(Value) -> Value =:= none orelse Value =:= false orelse Value =:= [].

pairs(Value) -> lists:all(fun(T) -> is_tuple(T) andalso size(T) =:= 2 end, Value).

look([self], [Top | _]) -> Top;
look([Key | Keys], Stack) -> within(Keys, first(Key, Stack)).

first(Key, [Vars | Stack]) ->
    case one(Key, Vars) of
        none -> first(Key, Stack);
        Value -> Value
    end;
first(_, []) -> none.

within([Key | Keys], Vars) -> within(Keys, one(Key, Vars));
within([], Value) -> Value.

one(Key, Vars) when is_list(Vars) ->
    case [Value || {Name, Value} <- Vars, is_atom(Name), atom_to_list(Name) =:= Key] of
        [Value | _] -> Value;
        [] -> none
    end;
one(_, _) -> none.

shown(Value) when is_integer(Value) -> integer_to_binary(Value);
shown(Value) when is_float(Value) -> io_lib:format("~p", [Value]);
shown(Value) when is_atom(Value) -> atom_to_binary(Value, utf8);
shown(Value) ->
    case catch unicode:characters_to_binary(Value) of
        Binary when is_binary(Binary) -> Binary;
        _ -> io_lib:format("~tp", [Value])
    end.

%% ---- small things ----

path(Name) -> tidy_binary(dram_inputs:path(Name)).

tidy_binary(Path) -> unicode:characters_to_binary(tidy(unicode:characters_to_list(Path))).

text(Text) when is_atom(Text) -> atom_to_binary(Text, utf8);
text(Text) ->
    case unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> iolist_to_binary(io_lib:format("~tp", [Text]))
    end.

to_list(Text) -> unicode:characters_to_list(Text).

nil(undefined) -> nil;
nil(Value) -> Value.

maybe_text(undefined) -> nil;
maybe_text(Value) -> text(Value).

maybe_path(Value) when is_atom(Value) -> Value;
maybe_path(Value) -> path(Value).

printable(Term) when is_function(Term); is_pid(Term); is_reference(Term); is_port(Term) ->
    {unprintable, text(io_lib:format("~tp", [Term]))};
printable([Head | Tail]) -> [printable(Head) | printable(Tail)];
printable(Term) when is_tuple(Term) -> list_to_tuple(printable(tuple_to_list(Term)));
printable(Term) when is_map(Term) -> maps:map(fun(_, Value) -> printable(Value) end, Term);
printable(Term) -> Term.

-spec refuse(atom(), iodata(), file:name_all()) -> no_return().
refuse(Kind, Message, File) ->
    throw({ask, #{kind => Kind, message => text(Message), file => path(File), line => nil,
                  stack => <<>>}}).

failed(Class, Reason, Stack) ->
    #{kind => case Class of error -> raise; _ -> Class end,
      message => text(io_lib:format("~tp: ~tp", [Class, Reason])),
      file => nil, line => nil,
      stack => text([io_lib:format("~tp~n", [Entry]) || Entry <- lists:sublist(Stack, 20)])}.
