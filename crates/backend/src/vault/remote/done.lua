end
return { change(), few() and 0 or 1 }
