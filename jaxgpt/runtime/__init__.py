"""Where it runs: devices, mesh, processes, compiler."""
