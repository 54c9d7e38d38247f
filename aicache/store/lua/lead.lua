-- Become the leader, unless an answer has come, somebody leads, or the call has just failed.
-- KEYS: lease, entry, failed
-- ARGV: token, lease in ms, ear of the caller's process ('' = none), take an entry with this mark ('' = none),
--       attempt, microseconds since the caller began (-1 = for ever), credential
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

local token = redis.call('HGET', KEYS[1], 'token')
if token then
  if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[1], ARGV[3], '')
  end
  return {'held', token, redis.call('PTTL', KEYS[1])}
end
redis.call('HSET', KEYS[1], 'token', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'led'}
