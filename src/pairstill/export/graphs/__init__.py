"""Parts of students in the form in which they become ONNX graphs."""
