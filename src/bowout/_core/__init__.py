"""The sans-IO core: no sockets, clocks, tasks or logging. Bytes and signals in; bytes, events and verdicts out."""
