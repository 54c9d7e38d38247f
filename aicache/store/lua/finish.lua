-- End a leader's flight: tell the waiters, free the lease, keep the answer or remember the failure for a moment.
-- A leader that is not the leader any more changes nothing.
-- An answer that was purged meanwhile is told, as those who wait began before, and not kept.
-- KEYS: lease, entry, lineage, failed, the answer's own mark, what there is of a stream
-- ARGV: token, kind of the message, kind where the answer was purged, payload follows (1/0), payload,
--       entry's life in ms (0 = not kept), lineage, its life in ms, failure's life in ms (0 = none), attempt, credential
local token, under = unpack(redis.call('HMGET', KEYS[1], 'token', 'mark'))
if token ~= ARGV[1] then
  return 'late'
end
local purged = not under or under ~= redis.call('GET', KEYS[5])
local message = token .. (purged and ARGV[3] or ARGV[2])
if ARGV[4] == '1' then
  message = message .. ARGV[5]
end
local ears = redis.call('HKEYS', KEYS[1])
redis.call('DEL', KEYS[1], KEYS[6])
for _, ear in ipairs(ears) do
  if string.find(ear, ':', 1, true) then
    redis.pcall('PUBLISH', ear, message) -- a user without the right to it keeps the answer all the same
  end
end
if tonumber(ARGV[6]) > 0 then
  if purged then
    return 'purged'
  end
  redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6])
  redis.call('SET', KEYS[3], ARGV[7], 'PX', ARGV[8])
end
if tonumber(ARGV[9]) > 0 then
  local now = redis.call('TIME')
  local at = string.format('%.0f', now[1] * 1000000 + now[2])
  redis.call('HSET', KEYS[4], 'attempt', ARGV[10], 'at', at, 'credential', ARGV[11], 'failure', ARGV[5])
  redis.call('PEXPIRE', KEYS[4], ARGV[9])
end
return 'ours'
