-- Take the stamps of tags, make them outlive what will hang on them, and draw those that are missing.
-- KEYS: stamps
-- ARGV: a fresh stamp ('' = draw none), life in ms that they must have left, the epoch that a stamp must be of
local stamps = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  if stamps[i] and string.sub(stamps[i], 1, #ARGV[3]) == ARGV[3] then
    local left = redis.call('PTTL', key)
    if left >= 0 and left < tonumber(ARGV[2]) then
      redis.call('PEXPIRE', key, ARGV[2])
    end
  elseif ARGV[1] ~= '' then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    stamps[i] = ARGV[1]
  else
    stamps[i] = false
  end
end
return stamps
