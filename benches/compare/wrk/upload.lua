-- Sends a body of 1 MiB with every request.
wrk.method = "PUT"
wrk.body = string.rep("x", 1048576)
