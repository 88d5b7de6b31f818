"""A local stand-in for the Vertex AI batch API. The provider itself never imports it."""
