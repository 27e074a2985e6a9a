"""Where frames come from: pictures, arrays, videos, cameras."""
