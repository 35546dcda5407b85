"""Cannot be imported."""

raise ImportError("libbroken.so.3: cannot open shared object file")
