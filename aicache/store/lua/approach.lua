-- approach
-- Come to the prompt-cache gate: which of one's prefixes lives, and who writes those after it.
-- KEYS: the prefixes, the shortest first; then the gates of those that one would write, likewise
-- ARGV: how many prefixes, token, lease in ms, ear of the caller's process ('' = none),
--       then for each gate which of the prefixes it is of
-- → which of them lives (0 = none), ms since it was written, its tokens, whether they are exact, whether it was read,
--   whether who wrote it has said so; then 'open'; or 'led', and which of the gates; or 'held', of which of the
--   prefixes, by whom, and for how many ms
local count = tonumber(ARGV[1])
local at, reply = 0, {0, 0, 0, 0, 0, 0}
for i = count, 1, -1 do
  local since, tokens, exact, read, told = unpack(redis.call('HMGET', KEYS[i], 'at', 'tokens', 'exact', 'read', 'told'))
  if since and tonumber(tokens) > 0 then
    local now = redis.call('TIME')
    local age = math.floor(now[1] * 1000 + now[2] / 1000 - tonumber(since))
    at = i
    reply = {i, age, tonumber(tokens), tonumber(exact), tonumber(read), tonumber(told)}
    break
  end
end

local wanted = {}
for i = count + 1, #KEYS do
  local of = tonumber(ARGV[4 + i - count])
  -- One that was found to be too short to be kept is waited for by nobody.
  if of > at and redis.call('HGET', KEYS[of], 'tokens') ~= '0' then
    table.insert(wanted, i)
  end
end
for i = #wanted, 1, -1 do
  local gate = KEYS[wanted[i]]
  local token = redis.call('HGET', gate, 'token')
  if token then
    if ARGV[4] ~= '' then
      redis.call('HSET', gate, ARGV[4], 1)
    end
    for _, word in ipairs({'held', tonumber(ARGV[4 + wanted[i] - count]), token, redis.call('PTTL', gate)}) do
      table.insert(reply, word)
    end
    return reply
  end
end
table.insert(reply, #wanted > 0 and 'led' or 'open')
for _, i in ipairs(wanted) do
  redis.call('HSET', KEYS[i], 'token', ARGV[2])
  redis.call('PEXPIRE', KEYS[i], ARGV[3])
  table.insert(reply, i - count)
end
return reply
