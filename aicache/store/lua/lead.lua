-- Become the leader, unless an answer has come, somebody leads, or the call has just failed.
-- KEYS: lease, entry, failed, the answer's own mark, which a purge takes away, what there is of a stream
-- ARGV: token, lease in ms, ear of the caller's process ('' = none), take an entry with this mark ('' = none),
--       attempt, microseconds since the caller began (-1 = for ever), credential, the word for "look again"
if ARGV[4] ~= '' then
  local entry = redis.call('GET', KEYS[2])
  -- An entry made under other stamps is dead: payload.py writes the mark at the seventh byte.
  if entry and string.sub(entry, 7, 22) == ARGV[4] then
    return {'entry', entry}
  end
end

local failed = redis.call('HMGET', KEYS[3], 'attempt', 'at', 'credential', 'failure')
if failed[1] and (failed[3] == '' or failed[3] == ARGV[7]) then
  local attempt, since = tonumber(ARGV[5]), tonumber(ARGV[6])
  local concerned
  if attempt > 0 then
    -- A retry takes the outcome of a retry as late as itself: 200 of them, spread by jitter, are one call.
    concerned = tonumber(failed[1]) >= attempt
  else
    local now = redis.call('TIME')
    local age = now[1] * 1000000 + now[2] - tonumber(failed[2])
    concerned = since < 0 or age < since
  end
  if concerned then
    return {'failed', failed[4]}
  end
end

local mark = redis.call('GET', KEYS[4])
local token, under, outgrown = unpack(redis.call('HMGET', KEYS[1], 'token', 'mark', 'outgrown'))
if token and mark and under == mark then
  if outgrown then
    return {'outgrown'}
  end
  if ARGV[3] ~= '' then
    redis.call('HINCRBY', KEYS[1], ARGV[3], 1)
  end
  return {'held', token, redis.call('PTTL', KEYS[1])}
end
if token then
  -- The answer has been purged since: who begins now does not wait for a call from before, and who waits waits in vain.
  for _, ear in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.find(ear, ':', 1, true) then
      redis.pcall('PUBLISH', ear, token .. ARGV[8])
    end
  end
  redis.call('DEL', KEYS[1])
end
if mark then
  redis.call('PEXPIRE', KEYS[4], ARGV[2])
else
  mark = ARGV[1]
  redis.call('SET', KEYS[4], mark, 'PX', ARGV[2])
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'mark', mark)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[5]) -- of a leader that died
return {'led'}
