-- Makes every write of a swap and appends its events, or does nothing.
--
-- KEYS: the index, the events, then each record.
-- ARGV: the swap's version (8 bytes), its time, how many writes there are; for each of them the
--       version that is expected (empty: no record), what to do and the value; then the payloads.
--
-- A record is its version, then its value. What stands before all events comes with the first swap, so
-- that whoever follows can tell whether events were trimmed, and whether everything was emptied.
local version, now, writes = ARGV[1], ARGV[2], tonumber(ARGV[3])
for place = 1, writes do
    local record = KEYS[place + 2]
    if redis.call('GETRANGE', record, 0, 7) ~= ARGV[place * 3 + 1] then
        return 0
    end
end
-- A command that the server refuses ends the script where it is and takes nothing back. What is told
-- comes first, then what is listed: an event of nothing is harmless, a change that nobody hears of is not.
local first = writes * 3 + 4
if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('XADD', KEYS[2], '*', 'v', version)
end
for payload = first, #ARGV do
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'v', version, 't', now, 'p', ARGV[payload])
end
local prefix = string.sub(KEYS[1], 1, -6)
for place = 1, writes do
    local record, what = KEYS[place + 2], ARGV[place * 3 + 2]
    local name = string.sub(record, #prefix + 3)
    if what == 'set' then
        redis.call('ZADD', KEYS[1], 0, name)
        redis.call('SET', record, version .. ARGV[place * 3 + 3])
    elseif what == 'del' then
        redis.call('DEL', record)
        redis.call('ZREM', KEYS[1], name)
    end
end
return 1
