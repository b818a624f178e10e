-- Sends the tokens of a file, one a line, in turn; after `--`: the file, the key.
local requests, turn = {}, 0

function init(args)
    for token in io.lines(args[1]) do
        local headers = { ["x-api-key"] = args[2], authorization = "Bearer " .. token }
        requests[#requests + 1] = wrk.format("GET", nil, headers)
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end
