"""What ``reprobatch report`` makes its folder of: facts for the page, pictures, and the page's own files."""
