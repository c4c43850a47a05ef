#!/usr/bin/env escript
%% Answers for the tests: what Erlang itself makes of the same questions.
-mode(compile).

main([Name, In, Out]) ->
    {ok, Bytes} = file:read_file(In),
    Answer = answer(list_to_atom(Name), binary_to_term(Bytes)),
    ok = file:write_file(Out, term_to_binary(Answer)).

answer(root, _) ->
    list_to_binary(code:root_dir());
answer(files, Patterns) ->
    [list_to_binary(File) || Pattern <- Patterns, File <- filelib:wildcard(binary_to_list(Pattern), code:root_dir())];
answer(consult, Files) ->
    [consult(File) || File <- Files];
answer(print, Terms) ->
    [printed(binary_to_term(Term)) || Term <- Terms];
answer(make_script, Releases) ->
    [make_script(Release) || Release <- Releases];
answer(make_relup, Questions) ->
    [make_relup(Question) || Question <- Questions];
answer(create_releases, {Root, Dir, Rel}) ->
    ok = release_handler:create_RELEASES(binary_to_list(Root), binary_to_list(Dir), binary_to_list(Rel), []),
    {ok, Text} = file:read_file(filename:join(Dir, "RELEASES")),
    Text;
answer(strip, {Dir, Files, Keep}) ->
    [strip(Dir, File, [binary_to_list(Name) || Name <- Keep]) || File <- Files];
answer(beams, Files) ->
    [beam(File) || File <- Files];
answer(relx, Questions) ->
    unpack_relx(),
    [relx(Question) || Question <- Questions].

consult(File) ->
    case file:consult(binary_to_list(File)) of
        {ok, Terms} -> term_to_binary(Terms);
        {error, {Line, Module, Reason}} when is_integer(Line) ->
            {Line, unicode:characters_to_binary(Module:format_error(Reason))}
    end.

printed(Term) ->
    {term_to_binary(Term), text("~tp", Term), text("~tw", Term)}.

text(Format, Term) ->
    unicode:characters_to_binary(io_lib:format(Format, [Term])).

make_script({File, Paths, Options}) ->
    Path = [binary_to_list(Dir) || Dir <- Paths],
    case systools:make_script(binary_to_list(File), [silent, no_warn_sasl, {path, Path} | Options]) of
        {ok, _, _} ->
            {ok, Boot} = file:read_file(<<File/binary, ".boot">>),
            {ok, Script} = file:read_file(<<File/binary, ".script">>),
            {Boot, Script};
        {error, _, Reason} when is_atom(Reason) -> Reason;
        {error, _, Reason} when is_tuple(Reason) -> element(1, Reason);
        {error, _, [Reason | _]} -> element(1, Reason)
    end.

make_relup({New, Old, Paths, Dir}) ->
    Name = binary_to_list(Old),
    Options = [silent, {outdir, binary_to_list(Dir)}, {path, [binary_to_list(Path) || Path <- Paths]}],
    case systools:make_relup(binary_to_list(New), [Name], [Name], Options) of
        {ok, _, _, _} ->
            {ok, Text} = file:read_file(filename:join(Dir, "relup")),
            Text;
        {error, systools_rc, Reason} when is_tuple(Reason) -> refusal(element(1, Reason));
        {error, _, Reason} when is_tuple(Reason) -> refusal(element(1, Reason));
        {error, _, Reason} -> refusal(Reason)
    end.

%% What is wrong with an instruction has one name on the other side.
refusal(Word) ->
    Bad = [bad_instruction, bad_module, bad_code_change, bad_change, bad_mod_type, bad_purge_method, bad_list,
           bad_args_list, bad_node, bad_application, bad_func, bad_lib, bad_lib_vsn, bad_timeout, bad_mode,
           bad_start_type, not_yet_implemented],
    case lists:member(Word, Bad) of
        true -> instruction;
        false -> Word
    end.

%% Files are stripped where they lie: here on copies.
strip(Dir, File, Keep) ->
    Copy = filename:join(Dir, filename:basename(File)),
    {ok, _} = file:copy(File, Copy),
    {ok, _} = beam_lib:strip_files([binary_to_list(Copy)], Keep),
    {ok, Bytes} = file:read_file(Copy),
    ok = file:delete(Copy),
    zlib:gunzip(Bytes).

beam(File) ->
    Name = binary_to_list(File),
    {ok, {Module, [{exports, Exports}, {imports, Imports}, {attributes, Attributes}]}} =
        beam_lib:chunks(Name, [exports, imports, attributes]),
    {ok, {Module, Md5}} = beam_lib:md5(Name),
    {Module, lists:sort(Exports), lists:sort(Imports), proplists:get_value(vsn, Attributes),
     proplists:get_value(behaviour, Attributes, []) ++ proplists:get_value(behavior, Attributes, []), Md5}.

%% relx lies in the archive of rebar3.
unpack_relx() ->
    {ok, Sections} = escript:extract(os:find_executable("rebar3"), []),
    {ok, Files} = zip:unzip(proplists:get_value(archive, Sections), [memory]),
    [{module, _} = load(Name, Bytes) || {Name, Bytes} <- Files, is_relx(Name)].

is_relx("relx/ebin/" ++ Name) -> filename:extension(Name) =:= ".beam";
is_relx(Name) -> Name =:= "rebar/ebin/rebar_log.beam".

load(Name, Bytes) ->
    code:load_binary(list_to_atom(filename:basename(Name, ".beam")), Name, Bytes).

relx({Dirs, Name, Goals, Exclude}) ->
    Release = rlx_release:goals(rlx_release:new(Name, "1.0"), Goals),
    {ok, State} = rlx_config:load({exclude_apps, Exclude}, {ok, rlx_state:new()}),
    Found = rlx_state:add_lib_dirs(State, [binary_to_list(Dir) || Dir <- Dirs]),
    try rlx_resolve:solve_release(Release, Found) of
        {ok, Solved, _} -> rlx_release:metadata(Solved)
    catch
        error:{error, _} -> refused
    end.
