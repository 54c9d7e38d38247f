-- swap
-- Put a value in the place of another, unless a third has come between.
-- KEYS: where
-- ARGV: the other ('' = none), the value ('' = none), its life in ms
-- → 1 where that is done
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
