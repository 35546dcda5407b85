"""The conformance kit that plugin authors run against their package."""
