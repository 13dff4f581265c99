"""A saved model in the browser: the only room that needs gradio."""
