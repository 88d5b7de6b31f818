"""A stand-in for the Vertex batch API, and the local stack around it. The package itself never imports it."""
