"""A local emulator for the Vertex AI batch API. The provider itself never imports it."""
