%% Says READY and counts cars.
-module(ferry_server).
-behaviour(gen_server).
-export([start_link/0, board/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2]).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

board(Cars) -> gen_server:call(?MODULE, {board, Cars}).

init([]) -> {ok, 0, {continue, ready}}.

handle_continue(ready, Cars) ->
    io:format("READY ~ts ~p~n", [application:get_env(ferry, harbour, "nowhere"),
                                 application:get_env(ferry, cars, none)]),
    {noreply, Cars}.

handle_call({board, More}, _From, Cars) -> {reply, Cars + More, Cars + More}.

handle_cast(_, Cars) -> {noreply, Cars}.
